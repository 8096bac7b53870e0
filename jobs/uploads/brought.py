"""What is known of a tenant's own models and texts while its request waits: all that files would tell, from the rows alone."""

from dataclasses import dataclass

from compression.families import read_architecture
from jobs.database import Sessions
from jobs.errors import SourceError
from jobs.sourcing.known_model import KnownModel
from jobs.uploads import datasets, model_uploads
from jobs.uploads.errors import DatasetNotFound, ModelNotFound
from jobs.uploads.model_checks import from_json
from jobs.uploads.model_uploads import UploadState


@dataclass(frozen=True)
class Brought:
    """What a tenant has brought."""

    sessions: Sessions
    tenant_id: str

    def model(self, model_id: str) -> KnownModel:
        """Raises: SourceError: the tenant has no such model, or it is not ready. UnsupportedModel."""
        source = f"upload:{model_id}"
        with self.sessions() as session:
            try:
                model = model_uploads.get(session, self.tenant_id, model_id)
            except ModelNotFound as error:
                raise SourceError(source, "there is no such uploaded model") from error
            if model.state != UploadState.READY:
                because = f": {model.problem}" if model.problem else ""
                raise SourceError(source, f"the uploaded model is {model.state}, not ready{because}")
            assert model.config is not None and model.tensors is not None, "written with the state"
            return KnownModel(model.config, read_architecture(model.config), from_json(model.tensors))

    def dataset_bytes(self, dataset_id: str) -> int:
        """Raises: SourceError: the tenant has no such data set."""
        try:
            with self.sessions() as session:
                return datasets.get(session, self.tenant_id, dataset_id).size_bytes
        except DatasetNotFound as error:
            raise SourceError(f"dataset:{dataset_id}", "there is no such data set") from error
