// ---------------------------------------------------------------- sliders over what binds

const sliders = []; // one function for each, which brings it up to date

function addSlider(place, key, name, values, ends) {
  const output = element("output");
  const input = element("input", { type: "range", min: 0, max: values.length - 1, step: 1, "aria-label": name });
  const at = (index) => (100 * index) / (values.length - 1);
  const marks = values.map((value) => element("span", {}, String(value)));
  marks.forEach((mark, index) => mark.style.setProperty("--at", `${at(index)}%`));
  const [left, right] = ends.map((end) => element("span", { class: "ends" }, end));
  const ticks = element("div", { class: "ticks", "aria-hidden": "true" }, ...marks);
  place.append(element("div", { class: "slider" }, element("div", { class: "name" }, left, output, right), input, ticks));
  input.addEventListener("input", () => choose({ [key]: Number(input.value) }));
  sliders.push(() => {
    const value = values[kept[key]];
    input.value = kept[key];
    input.setAttribute("aria-valuetext", String(value));
    output.textContent = key === "factor" ? `N = ${value}` : `range ${value}`;
    marks.forEach((mark, index) => mark.classList.toggle("now", index === kept[key]));
  });
}

/** Show everything under other settings of the sliders. */
function choose(change) {
  Object.assign(kept, change);
  sliders.forEach((update) => update());
  for (const tile of tiles.keys()) paint(tile);
  if (viewed) view(viewed);
}

function addSliders() {
  for (const place of document.querySelectorAll(".sliders")) {
    if (factors.length > 1) {
      addSlider(place, "factor", "Downsample factor N", factors, ["closer to the reference", "freer"]);
    }
    if (ranges.length > 1) {
      addSlider(place, "range", "Last steps left to the model", ranges, ["refined to the end", "last steps free"]);
    }
  }
  $("#controls").hidden = factors.length === 1 && ranges.length === 1 && references.length === 1;
}

// ---------------------------------------------------------------- settings, command, how far the run is

function entries(pairs) {
  return pairs.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, String(value))));
}

async function copy(code) {
  const text = code.textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    getSelection().selectAllChildren(code); // where a page may not: the user's own way
    if (!document.execCommand("copy")) return say("Selected: copy it with Ctrl-C");
  }
  say("Copied");
}

function say(words) {
  const place = viewer.open ? viewer : document.body; // a dialog hides what is outside it
  place.append($("#said"));
  $("#said").textContent = words;
  setTimeout(() => ($("#said").textContent = ""), 2000);
}

function ago(seconds) {
  if (seconds < 10) return "just now";
  if (seconds < 120) return `${Math.round(seconds)} seconds ago`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} minutes ago`;
  return `${Math.round(seconds / 3600)} hours ago`;
}

function age() {
  return Math.max(0, (Date.now() - Date.parse(document.lastModified)) / 1000);
}

function tellNews() {
  const total = references.reduce((sum, reference) => sum + variations(reference), 0) * data.bindings.length;
  const done = made.reduce((sum, flags) => sum + flags.reduce((a, b) => a + b, 0), 0);
  const followed = plural(references.length, "reference");
  $("#title").textContent = `${plural(total, "image")} that follow${total === 1 ? "s" : ""} ${followed}`;
  document.title = `${done < total ? `${done} of ` : ""}${plural(total, "image")}, ILVR`;
  $("#status").hidden = done === total && !data.running;
  $("#bar").value = done / total;
  const count = `${done.toLocaleString("en")} of ${plural(total, "image")}`;
  $("#news").textContent = data.running
    ? `${count}, last news ${ago(age())}. This page refreshes itself.`
    : `${count}. The same command goes on with the other ${(total - done).toLocaleString("en")}.`;
}

let lastTyped = 0; // milliseconds

/** Keep what a refresh is to find again. */
function remember() {
  history.replaceState({ ...kept, scroll: scrollY, settings: $("#settings").open }, "");
}

/** Look again, unless that would disturb someone. */
function refresh() {
  tellNews();
  setTimeout(refresh, age() > 600 ? 15 * REFRESH : REFRESH);
  const busy = viewer.open || document.hidden || Date.now() - lastTyped < REFRESH || String(getSelection());
  if (!busy) location.reload();
}

// ---------------------------------------------------------------- what the user does

/** Mark a tile whose file is gone or broken, as in a folder that was copied in part. Errors do not bubble. */
function lose({ target, type }) {
  const tile = target.closest?.(".tile");
  tile?.classList.toggle("lost", type === "error");
  if (tile && type === "error") $("#lost").hidden = false;
}

function listen() {
  $("#rows").addEventListener("click", (event) => {
    const tile = event.target.closest("button.tile");
    if (tile) view(tiles.get(tile));
  });
  $("#filter").addEventListener("input", () => {
    lastTyped = Date.now();
    kept.filter = $("#filter").value;
    rebuild();
  });
  $("#divider").addEventListener("input", () => move(Number($("#divider").value)));
  $("#previous").addEventListener("click", () => go(-1));
  $("#next").addEventListener("click", () => go(1));
  $("#play").addEventListener("click", () => play($("#play").getAttribute("aria-pressed") !== "true"));
  viewer.addEventListener("close", () => {
    for (const [tile, { reference, variation }] of tiles) {
      if (reference === viewed.reference && variation === viewed.variation) tile.focus();
    }
    viewed = null;
  });
  for (const choice of document.querySelectorAll("input[name=with]")) {
    choice.addEventListener("change", () => view(viewed));
  }
  for (const button of document.querySelectorAll("[data-copies]")) {
    button.addEventListener("click", () => copy($(`#${button.dataset.copies}`)));
  }
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("input, pre")) return;
    if (viewer.open ? pressInViewer(event.key) : pressOnPage(event.key)) event.preventDefault();
  });
  addEventListener("beforeunload", remember);
  new ResizeObserver(layOut).observe($("#rows"));
  new ResizeObserver(fit).observe($(".middle"));
}

/** Arrows: left and right to another image, up and down to another N, or range. Whether the key did something. */
function pressInViewer(key) {
  const across = { ArrowLeft: -1, ArrowRight: 1 }[key];
  const along = { ArrowDown: -1, ArrowUp: 1 }[key];
  if (across) go(across);
  const [slider, count] = factors.length > 1 ? ["factor", factors.length] : ["range", ranges.length];
  if (along) choose({ [slider]: Math.min(count - 1, Math.max(0, kept[slider] + along)) });
  return Boolean(across || along);
}

/** Arrows: from one image to the one beside, above or below it. Whether the key did something. */
function pressOnPage(key) {
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
  const here = document.activeElement;
  if (!way || !here.matches("button.tile")) return false;
  const from = here.getBoundingClientRect();
  let nearest = { distance: Infinity, tile: null };
  for (const tile of document.querySelectorAll("button.tile:enabled")) {
    const to = tile.getBoundingClientRect();
    const [x, y] = [to.left - from.left, to.top - from.top];
    const along = x * way[0] + y * way[1];
    const aside = Math.abs(x * way[1] + y * way[0]);
    if (along > 1 && (way[0] === 0 || aside < from.height)) {
      const distance = along + 3 * aside;
      if (distance < nearest.distance) nearest = { distance, tile };
    }
  }
  nearest.tile?.focus();
  return nearest.tile !== null;
}

function begin() {
  kept.factor = Math.min(kept.factor, factors.length - 1); // the page may be another than at the last visit
  kept.range = Math.min(kept.range, ranges.length - 1);
  $("#filter").value = kept.filter;
  $("#settings").open = kept.settings;
  $("#about").textContent = data.about;
  $("#values").append(...entries(data.settings));
  for (const code of [$("#command"), $("#command-again")]) {
    const parts = data.command.split(/(\s+)/); // each word is a box of its own, so that lines break at spaces only
    code.replaceChildren(...parts.map((part) => (part.trim() ? element("span", {}, part) : part)));
  }
  tellNews();
  addSliders();
  sliders.forEach((update) => update());
  for (const type of ["error", "load"]) $("#rows").addEventListener(type, lose, true);
  layOut();
  rebuild(kept.count);
  scrollTo({ top: kept.scroll, behavior: "instant" });
  listen();
  if (data.running) setTimeout(refresh, REFRESH);
}

history.scrollRestoration = "manual";
begin();
