// Bringing data sets and models: the same requests that any client of the API makes, with the page's token as proof.

import { Sha256 } from "./sha256.js";

const csrf = document.querySelector('meta[name="csrf"]').content;
const JSON_LINES = /\.(jsonl|ndjson)$/i;
const PIECE_BYTES = 4 * 1024 * 1024;

async function ask(method, path, headers = {}, body = undefined) {
  const answer = await fetch(path, { method, headers: { "X-CSRF-Token": csrf, ...headers }, body });
  const told = answer.status === 204 ? null : await answer.json();
  if (!answer.ok) {
    const fields = (told.errors || []).map((error) => `${error.field}: ${error.detail}`);
    throw new Error([told.detail || told.title, ...fields].join("; "));
  }
  return told;
}

function show(form, share, words) {
  const line = form.querySelector("#upload-progress");
  line.hidden = false;
  line.querySelector("progress").value = share;
  line.querySelector("span").textContent = words;
}

function sending(form, send) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    const error = form.querySelector(".error");
    error.textContent = "";
    button.disabled = true;
    try {
      await send();
      location.reload();
    } catch (problem) {
      error.textContent = problem.message;
      button.disabled = false;
    }
  });
}

async function sha256(file, told) {
  const hash = new Sha256();
  for (let at = 0; at < file.size; at += PIECE_BYTES) {
    hash.update(new Uint8Array(await file.slice(at, at + PIECE_BYTES).arrayBuffer()));
    told(Math.min(at + PIECE_BYTES, file.size));
  }
  return hash.hex();
}

const dataset = document.getElementById("dataset-upload");
if (dataset) {
  sending(dataset, async () => {
    const file = dataset.querySelector("#file").files[0];
    show(dataset, 0.5, `bringing ${file.name}`);
    const type = JSON_LINES.test(file.name) ? "application/jsonl" : "text/plain";
    await ask("POST", `/v1/datasets?name=${encodeURIComponent(dataset.querySelector("#name").value)}`, { "Content-Type": type }, file);
  });
}

const model = document.getElementById("model-upload");
if (model) {
  sending(model, async () => {
    const files = [...model.querySelector("#files").files];
    const whole = files.reduce((sum, file) => sum + file.size, 0) || 1;
    let before = 0;
    const manifest = [];
    for (const file of files) {
      const digest = await sha256(file, (bytes) => show(model, (before + bytes) / whole, `hashing ${file.name}`));
      manifest.push({ path: file.name, size_bytes: file.size, sha256: digest });
      before += file.size;
    }
    const body = JSON.stringify({ name: model.querySelector("#name").value, files: manifest });
    const begun = await ask("POST", "/v1/models", { "Content-Type": "application/json" }, body);
    before = 0;
    for (const file of files) {
      let at = begun.files.find((entry) => entry.path === file.name).received_bytes;
      while (at < file.size) {
        show(model, (before + at) / whole, `bringing ${file.name}`);
        const part = file.slice(at, at + begun.part_bytes);
        const headers = { "Content-Type": "application/octet-stream", "Upload-Offset": String(at) };
        at = (await ask("PUT", `/v1/models/${begun.id}/files/${encodeURIComponent(file.name)}`, headers, part)).received_bytes;
      }
      before += file.size;
    }
  });
}
