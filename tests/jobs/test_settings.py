from pathlib import Path

import pytest
from pydantic import ValidationError

from jobs.settings import Settings


def test_everything_follows_from_the_data_folder() -> None:
    settings = Settings(data_dir=Path("/srv/scalpel"))
    assert settings.database_url == "sqlite:////srv/scalpel/scalpel.db"
    assert settings.artifact_url == "file:///srv/scalpel/artifacts"
    assert settings.cache_dir == Path("/srv/scalpel/cache")
    assert settings.scratch_dir == Path("/srv/scalpel/scratch")


def test_a_mapping_gives_prefixed_names_only() -> None:
    settings = Settings.from_mapping(
        {"SCALPEL_PORT": "9000", "PORT": "1", "SCALPEL_LEASE_S": "2.5", "SCALPEL_URL": "http://x"}
    )
    assert (settings.port, settings.lease_s) == (9000, 2.5)


def test_an_empty_variable_counts_as_not_given() -> None:
    assert Settings.from_mapping({"SCALPEL_BROKER_URL": " ", "SCALPEL_PORT": ""}) == Settings()


def test_model_roots_are_split_like_a_path() -> None:
    settings = Settings.from_mapping({"SCALPEL_MODEL_ROOTS": "/models:/data/texts:"})
    assert settings.model_roots == (Path("/models"), Path("/data/texts"))


def test_folders_are_absolute_and_home_is_expanded() -> None:
    assert Settings(data_dir=Path("~/here")).data_dir == Path.home() / "here"
    assert Settings(data_dir=Path("here")).data_dir == Path.cwd() / "here"


def test_postgresql_is_spoken_to_through_psycopg_3() -> None:
    assert Settings(database_url="postgresql://host/name").database_url == "postgresql+psycopg://host/name"


def test_a_wrong_value_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="port"):
        Settings.from_mapping({"SCALPEL_PORT": "many"})


def test_secrets_are_not_shown() -> None:
    assert "hf_word" not in repr(Settings.from_mapping({"SCALPEL_HUB_TOKEN": "hf_word"}))
