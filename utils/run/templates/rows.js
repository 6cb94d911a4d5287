"use strict";

// The page of a run. What it shows stands in the JSON block. Text goes in as text, never as markup.

const $ = (selector, root = document) => root.querySelector(selector);
const data = JSON.parse($("#data").textContent);
const [HEIGHT, WIDTH] = data.size;
const CHUNK = 120; // tiles put into the page at a time
const TILE = 128; // CSS pixels of a tile's longer side, about
const GAP = 8; // CSS pixels between tiles
const COLUMN_GAP = 40;
const BETWEEN_ROWS = 64; // with the name
const REFRESH = 4000; // milliseconds between two looks at a run that goes on

const factors = [...new Set(data.bindings.map((binding) => binding.factor))];
const ranges = [...new Set(data.bindings.map((binding) => binding.range))];
const made = data.bindings.map((binding) => members(binding.made, data.samples));
const pictured = Object.fromEntries(
  Object.entries(data.pictures).map(([folder, pairs]) => [folder, members(pairs, data.references.length)]),
);
const references = data.references.map((reference, index) => ({ ...reference, index })).filter(({ stem }) => stem);
const mostVariations = references.length ? variations(references[0]) : 0;

/** What outlives a refresh of the page. */
const kept = { factor: 0, range: 0, filter: "", count: CHUNK, scroll: 0, settings: false, ...history.state };
const tiles = new Map(); // of each tile in the page: its reference, and its variation or which picture of the reference
let shown = references; // those the filter leaves
let viewed = null; // the sample that is enlarged: { reference, variation }

// ---------------------------------------------------------------- what there is, and where

/** The numbers in ranges [first, end), as an array of 0 and 1. */
function members(pairs, length) {
  const flags = new Uint8Array(length);
  for (const [first, end] of pairs) flags.fill(1, first, end);
  return flags;
}

function variations(reference) {
  return Math.ceil((data.samples - reference.index) / data.stride);
}

/** A variation in words, and the class that it draws where there are several. */
function variationName(variation) {
  const { classes } = data;
  return `variation ${variation}` + (classes.length > 1 ? `, class ${classes[variation % classes.length]}` : "");
}

function numberOf(reference, variation) {
  return reference.index + variation * data.stride;
}

/** The index of the binding that the sliders choose. */
function current() {
  return kept.factor * ranges.length + kept.range;
}

/** Where a file of the chosen binding lies. */
function placed(name) {
  const { folder } = data.bindings[current()];
  return folder ? `${folder}/${name}` : name;
}

/** A sample's URL, or null while it is not made. */
function sampleUrl(reference, variation) {
  const number = numberOf(reference, variation);
  return made[current()][number] ? `./${placed(`${reference.stem}_${variation}.png`)}` : null;
}

/** The URL of the reference as the model sees it, or of what of it binds; null while it is not there. */
function pictureUrl(reference, kind) {
  const folder = kind === "binds" ? data.bindings[current()].binds : data.folder;
  return pictured[folder][reference.index] ? `./${folder}/${reference.stem}.png` : null;
}

function bindingName() {
  const { factor, range } = data.bindings[current()];
  return `N = ${factor}${ranges.length > 1 ? `, range ${range}` : ""}`;
}

function plural(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// ---------------------------------------------------------------- tiles

/** Bring a tile up to date: its picture, or that there is none yet. */
function paint(tile) {
  const { reference, variation, kind } = tiles.get(tile);
  const url = kind ? pictureUrl(reference, kind) : sampleUrl(reference, variation);
  const what = { reference: "reference", binds: `what binds at ${bindingName()}` }[kind] ?? variationName(variation);
  const label = `${reference.label}, ${what}${url ? "" : ", not made yet"}`;
  tile.classList.toggle("missing", !url);
  if (!kind) {
    tile.disabled = !url;
    tile.setAttribute("aria-label", label);
    tile.classList.toggle("film", filmUrl({ reference, variation }) !== null);
  }
  tile.title = kind ? what : "";
  let image = $("img", tile);
  if (!url) return image?.remove();
  if (!image) {
    image = element("img", { loading: "lazy", width: WIDTH, height: HEIGHT });
    tile.append(image);
  }
  image.alt = kind ? label : "";
  if (image.getAttribute("src") !== url) image.src = url;
}

function tileOf(content) {
  const tile = content.kind ? element("div", { class: "tile" }) : element("button", { class: "tile", type: "button" });
  tiles.set(tile, content);
  paint(tile);
  return tile;
}

/** Puts a sample's tile into the page at every step, and a row for each reference. */
function* builder() {
  for (const reference of shown) {
    const pictures = ["reference", "binds"].map((kind) => tileOf({ reference, kind }));
    const samples = element("div", { class: "samples" });
    const name = element("h2", { title: reference.label }, reference.label);
    const row = element("div", { class: "tiles" }, element("div", { class: "given" }, ...pictures), samples);
    $("#rows").append(element("section", { class: "row", "aria-label": reference.label }, name, row));
    for (let variation = 0; variation < variations(reference); variation++) {
      samples.append(tileOf({ reference, variation }));
      yield;
    }
  }
}

let building = builder();
const atTheEnd = new IntersectionObserver((seen) => seen.some((one) => one.isIntersecting) && more(CHUNK), {
  rootMargin: "1200px",
});

/** Put so many more samples into the page, and again when their end comes near. */
function more(count) {
  atTheEnd.disconnect();
  for (let i = 0; i < count; i++) {
    if (building.next().done) return;
    kept.count++;
  }
  atTheEnd.observe($("#rows").lastElementChild);
}

function rebuild(count = CHUNK) {
  const words = kept.filter.toLowerCase();
  shown = references.filter(({ label }) => label.toLowerCase().includes(words));
  tiles.clear();
  $("#rows").replaceChildren();
  $("#nothing").hidden = shown.length > 0;
  building = builder();
  kept.count = 0;
  more(count);
}

/** How wide a row is whose tiles are so wide, so many variations beside each other. */
function rowWidth(width, beside, stacked) {
  const samples = beside * (width + GAP) - GAP;
  const given = 2 * width + 1;
  return stacked ? Math.max(given, samples) : given + 2 * GAP + samples;
}

/** The sizes that a tile may have, in CSS pixels per pixel, the largest first: of small pictures, whole multiples. */
function scales(density) {
  const long = Math.max(HEIGHT, WIDTH);
  if (long > 1.5 * TILE * density) return [1.5, 1.25, 1].map((share) => (share * TILE) / long);
  const multiples = Array.from({ length: 1 + Math.floor((1.5 * TILE * density) / long) }, (_, i) => i / density);
  return multiples.filter((scale) => scale * long >= 0.75 * TILE).reverse();
}

/**
 * Choose the tiles' size, and how many variations stand beside each other, so that pictures cover as much of the page
 * as they can.
 */
function layOut() {
  const space = $("#rows").clientWidth - 2 * parseFloat(getComputedStyle($("#rows")).paddingLeft);
  const stacked = space < 600 && mostVariations > 1;
  const smallest = (space - 1 - 3 * GAP) / 3 / WIDTH; // three tiles beside each other
  let best = { covered: 0, scale: smallest, beside: stacked ? 3 : 1 };
  for (const scale of scales(devicePixelRatio)) {
    for (let lines = 1, beside = 0; lines <= mostVariations && beside !== 1; lines++) {
      beside = Math.ceil(mostVariations / lines);
      const columns = Math.floor((space + COLUMN_GAP) / (rowWidth(scale * WIDTH, beside, stacked) + COLUMN_GAP));
      const height = (lines + (stacked ? 1 : 0)) * (scale * HEIGHT + GAP) + BETWEEN_ROWS;
      const covered = (scale * scale * Math.min(columns, references.length)) / height;
      if (covered > 1.02 * best.covered) best = { covered, scale, beside };
    }
  }
  const sizes = {
    "--w": best.scale * WIDTH,
    "--h": best.scale * HEIGHT,
    "--row": rowWidth(best.scale * WIDTH, best.beside, stacked),
    "--samples": best.beside * (best.scale * WIDTH + GAP) - GAP,
  };
  for (const [name, length] of Object.entries(sizes)) document.documentElement.style.setProperty(name, `${length}px`);
  document.documentElement.style.setProperty("--pixels", pixels(best.scale * devicePixelRatio));
  $("#rows").classList.toggle("stacked", stacked);
}

/** How a picture is drawn at so many device pixels per pixel. */
function pixels(scale) {
  return scale >= 1 && Math.abs(scale - Math.round(scale)) < 1e-6 ? "pixelated" : "auto";
}
