// Keeps a page current, sends its small forms without leaving it, and draws its charts. A page works without this too.
"use strict";

const EVERY = 2000;

// Regions: elements marked `data-live`, whose children have ids. Only children that changed are replaced, so that what
// is being read, focused or open stays as it is.
const written = new WeakMap();
const remember = (element) => written.set(element, element.outerHTML);

function keepOpen(was, now) {
  const open = was.matches("details") ? [was] : [];
  for (const one of [...open, ...was.querySelectorAll("details")]) {
    const twin = one === was ? now : now.querySelector("details");
    if (one.open && twin) twin.open = true;
  }
}

function merge(region, fresh) {
  const focused = document.activeElement;
  const before = new Map([...region.children].map((child) => [child.id, child]));
  const after = [...fresh.children].map((child) => {
    const was = before.get(child.id);
    if (was && written.get(was) === child.outerHTML) return was;
    const now = document.importNode(child, true);
    remember(now);
    if (was) keepOpen(was, now);
    return now;
  });
  for (const child of [...region.children]) if (!after.includes(child)) child.remove();
  after.forEach((child, place) => {
    if (region.children[place] !== child) region.insertBefore(child, region.children[place] || null);
  });
  if (focused && focused.id && !focused.isConnected) document.getElementById(focused.id)?.focus();
}

// State: said in the bar, where the updates can be paused as well.
const regions = [...document.querySelectorAll("[data-live]")];
let paused = false;
let state;

function addState() {
  state = document.createElement("button");
  state.type = "button";
  state.className = "state";
  state.addEventListener("click", () => {
    paused = !paused;
    say(paused ? "Paused" : "Updating");
    if (!paused) refresh();
  });
  document.querySelector(".bar").append(state);
  say("Updating");
}

function say(words) {
  state.textContent = words;
  state.dataset.state = words.toLowerCase().replace(" ", "-");
  state.title = paused ? "Resume updates" : "Pause updates";
}

async function refresh() {
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const region of regions) merge(region, page.getElementById(region.id));
    draw();
    if (!paused) say("Updating");
  } catch {
    if (!paused) say("No answer");
  }
}

async function watch() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, EVERY));
    if (!paused && !document.hidden) await refresh();
  }
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.matches("[data-quiet]")) return;
  event.preventDefault();
  await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form, event.submitter)) });
  await refresh();
});

// Charts: drawn by uPlot out of the table beside them.
const plots = new Map();
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function draw() {
  for (const [figure, plot] of plots) {
    if (figure.isConnected) continue;
    plot.destroy();
    plots.delete(figure);
  }
  for (const figure of document.querySelectorAll("figure.chart")) {
    if (!plots.has(figure)) plots.set(figure, bars(figure));
  }
}

// By how many columns of numbers a table has: the parts of a whole stand in front of it, what is beside it is a line.
const SERIES = [["--accent"], ["--pale", "--accent"], ["--pale", "--accent", "line"]];

function drawn(kind) {
  if (kind === "line") return { stroke: colour("--bad"), width: 2, points: { show: false } };
  return { fill: colour(kind), width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [0.7, 40] }) };
}

const brief = (label) => ({ more: "+" })[label] || label.replace(" s", "s").replace(" min", "m").replace(":00", "");

function bars(figure) {
  const rows = [...figure.querySelectorAll("[data-chart] tbody tr")].map((row) => [...row.cells]);
  const labels = rows.map(([label]) => label.textContent);
  const every = Math.ceil((labels.length * 24) / figure.clientWidth);
  const shown = labels.map((label, place) => (place % every ? "" : brief(label)));
  const axis = { stroke: colour("--soft"), grid: { show: false }, ticks: { show: false }, font: "11px system-ui" };
  const options = {
    width: figure.clientWidth - 2,
    height: 160,
    legend: { show: false },
    cursor: { show: false },
    scales: { x: { time: false, range: [-0.6, labels.length - 0.4] }, y: { range: (_, least, most) => [0, most || 1] } },
    axes: [
      { ...axis, size: 26, splits: () => labels.map((_, place) => place), values: () => shown },
      { ...axis, size: 40, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000, 10000, 100000] },
    ],
    series: [{}, ...SERIES[rows[0].length - 2].map(drawn)],
  };
  const columns = options.series.slice(1).map((_, place) => rows.map((cells) => Number(cells[place + 1].textContent)));
  const data = [labels.map((_, place) => place), ...columns];
  return new uPlot(options, data, figure.querySelector(".plot"));
}

function drawAnew() {
  for (const plot of plots.values()) plot.destroy();
  plots.clear();
  draw();
}

if (regions.length) {
  for (const region of regions) for (const child of region.children) remember(child);
  addState();
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAnew);
  addEventListener("resize", drawAnew);
  watch();
}
