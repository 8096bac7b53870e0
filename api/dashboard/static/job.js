// A job's events as curves and a log. The server sends every event from the first on, and what is new as it happens;
// after a lost connection it goes on behind the last one that came.

const live = document.getElementById("live");
const log = document.getElementById("log");
const status = document.getElementById("status");
const FINAL = ["succeeded", "failed", "cancelled"];

const errors = { x: [], error: [], names: [] };
const memory = { x: [], host: [], device: [] };
let attempt = 0;
let isDrawing = false;
let isAsking = false;
const ASK_MS = 500;  // however many events come, the server is asked for the job no more often

function colour(name) {  // as a canvas understands it
  live.style.color = `var(--${name})`;
  return getComputedStyle(live).color;
}

function curve(element, series, scales, axisValues) {
  const axis = { stroke: colour("muted"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line") } };
  const options = {
    width: Math.max(element.clientWidth, 240), height: 220, cursor: { drag: { x: false, y: false } }, scales,
    axes: [{ ...axis, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] }, { ...axis, size: 64, values: axisValues }],
    series: [{ label: series.x }, ...series.y],
  };
  return new uPlot(options, series.empty, element);
}

const UNITS = [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"], [0, "B"]];
function bytes(value) {
  if (value == null) return "–";
  const [unit, name] = UNITS.find(([least]) => value >= least);
  return `${unit ? (value / unit).toPrecision(3) : value} ${name}`;
}

const figure = (value) => value == null ? "–" : value.toPrecision(3);
let charts = [];

function makeCharts() {
  for (const chart of charts) chart.destroy();
  charts = [
    curve(
      document.getElementById("errors"),
      {
        x: "matrix", empty: [[], []],
        y: [{ label: "error", stroke: colour("accent"), width: 1.5, value: (_, value, __, at) => at == null ? "–" : `${figure(value)} ${errors.names[at]}` }],
      },
      { x: { time: false }, y: { distr: 3 } },
      (_, values) => values.map((value) => value == null ? "" : Number(value).toExponential(0)),
    ),
    curve(
      document.getElementById("memory"),
      {
        x: "block", empty: [[], [], []],
        y: [
          { label: "host", stroke: colour("accent"), width: 1.5, value: (_, value) => bytes(value) },
          { label: "device", stroke: colour("warn"), width: 1.5, value: (_, value) => bytes(value) },
        ],
      },
      { x: { time: false }, y: { range: (_, __, high) => [0, (high || 1) * 1.1] } },
      (_, values) => values.map(bytes),
    ),
  ];
  draw();
}

function draw() {
  isDrawing = false;
  charts[0].setData([errors.x, errors.error]);
  charts[1].setData([memory.x, memory.host, memory.device]);
  document.getElementById("errors").setAttribute("aria-label", `Curve of layer errors: ${errors.x.length} matrices so far`);
}

function changed() {
  if (!isDrawing) {
    isDrawing = true;
    requestAnimationFrame(draw);
  }
  if (live.dataset.final === "no" && !isAsking) {
    isAsking = true;
    setTimeout(() => { isAsking = false; status.dispatchEvent(new Event("changed")); }, ASK_MS);
  }
}

function note(event, words, kind = "") {
  const line = document.createElement("li");
  const time = document.createElement("time");
  time.title = event.created_at;
  time.textContent = new Date(event.created_at).toLocaleTimeString();
  line.append(time, " ", words);
  if (kind) line.className = kind;
  const isAtEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 20;
  log.append(line);
  if (isAtEnd) log.scrollTop = log.scrollHeight;
}

const heard = {
  state(event) {
    note(event, `${event.data.state}${event.data.attempt ? `, attempt ${event.data.attempt}` : ""}`, "strong");
    if (FINAL.includes(event.data.state)) {
      live.remove();
      if (live.dataset.final === "no") location.reload();  // to the results
    }
  },
  stage(event) { note(event, event.data.stage); },
  activity() {},
  layer(event) {
    const result = event.data.result;
    if (result.relative_error != null) {
      errors.x.push(errors.x.length + 1);
      errors.error.push(result.relative_error > 0 ? result.relative_error : null);
      errors.names.push(result.name);
    }
    for (const fallback of result.fallbacks) note(event, `${result.name}: ${fallback}`, "warn");
  },
  block(event) {
    const data = event.data;
    memory.x.push(data.block);
    memory.host.push(data.host_memory_bytes);
    memory.device.push(data.device_memory_bytes);
    note(event, `block ${data.block} of ${data.blocks}${data.is_replayed ? ", finished before" : ""}` +
      (data.mean_relative_error == null ? "" : `, mean error ${figure(data.mean_relative_error)}`));
  },
  note(event) { note(event, event.data.message, event.data.level === "warning" ? "warn" : ""); },
};

function startOver(event) {
  attempt = event.attempt;
  for (const list of [...Object.values(errors), ...Object.values(memory)]) list.length = 0;
}

for (const [type, hear] of Object.entries(heard)) {
  live.addEventListener(type, (message) => {
    const event = JSON.parse(message.detail.data);
    if (event.attempt > attempt) startOver(event);  // a new attempt tells of every block again
    hear(event);
    changed();
  });
}
live.addEventListener("htmx:sse:after:connection", changed);  // the answer to the last question may have been lost
makeCharts();
document.addEventListener("theme", makeCharts);
new ResizeObserver(() => charts.forEach((chart) => {
  const width = chart.root.parentElement.clientWidth;
  if (width && width !== chart.width) chart.setSize({ width, height: 220 });
})).observe(document.getElementById("curves"));
