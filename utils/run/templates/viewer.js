// ---------------------------------------------------------------- one image, enlarged

const viewer = $("#viewer");

function filmUrl({ reference, variation }) {
  if (numberOf(reference, variation) !== data.film) return null;
  return data.bindings[current()].film ? `./${placed("progress_grid.webp")}` : null;
}

/** Enlarge a sample, against its reference or what of it binds. */
function view(sample) {
  viewed = sample;
  const { reference, variation } = sample;
  const kind = $("input[name=with]:checked").value;
  const [against, url] = [pictureUrl(reference, kind), sampleUrl(reference, variation)];
  const name = { reference: "reference", binds: "what binds" }[kind];
  $("#caption span:first-child").textContent = reference.label;
  $("#caption span:last-child").textContent = `${variationName(variation)}, ${bindingName()}`;
  show($("#after"), url, `${variationName(variation)} of ${reference.label}`);
  show($("#before"), against, `${name} of ${reference.label}`);
  show($("#alone"), against, "");
  $("#beside figcaption").textContent = name;
  $("#compare figcaption span").textContent = name;
  $("#divider").setAttribute("aria-label", `Divider between ${name} and sample`);
  $("#details").replaceChildren(...entries([...sampleSettings(sample), ...data.settings]));
  const film = filmUrl(sample);
  $("#play").hidden = film === null;
  play(film !== null && $("#play").getAttribute("aria-pressed") === "true");
  $("#previous").disabled = neighbour(-1) === null;
  $("#next").disabled = neighbour(1) === null;
  if (!viewer.open) {
    viewer.showModal();
    $("#caption").focus();
    move(50);
  }
  fit();
}

function show(image, url, alt) {
  image.hidden = url === null;
  image.alt = alt;
  if (url !== null && image.getAttribute("src") !== url) image.src = url;
}

function sampleSettings({ reference, variation }) {
  const { factor, range } = data.bindings[current()];
  return [
    ["file", placed(`${reference.name}_${variation}.png`)],
    ["sample", numberOf(reference, variation)],
    ["variation", variation],
    ...(data.classes.length > 1 ? [["class_id", data.classes[variation % data.classes.length]]] : []),
    ["downsample_factor", factor],
    ["range_t", range],
  ];
}

/** Show how the sample came to be, or the comparison again. */
function play(on) {
  const film = $("#film img");
  $("#play").setAttribute("aria-pressed", String(on));
  $("#film").hidden = !on;
  $("#compare").hidden = on;
  $("#beside").hidden = on;
  film.alt = on ? "The sample over its steps" : "";
  if (on) film.src = filmUrl(viewed);
  else film.removeAttribute("src");
  fit();
}

/** The divider's place, in percent from the left. */
function move(percent) {
  $("#divider").value = percent;
  $("#divider").setAttribute("aria-valuetext", `${Math.round(percent)}% reference`);
  $(".stage").style.setProperty("--at", `${percent}%`);
}

/** The largest whole multiple that the window has room for. */
function fit() {
  if (!viewed) return;
  const { clientWidth, clientHeight } = $(".middle");
  const density = window.devicePixelRatio;
  const film = !$("#film").hidden;
  const [across, gap] = film ? [2, 0] : matchMedia("(min-width: 900px)").matches ? [2, 24] : [1, 0];
  const padding = 2 * parseFloat(getComputedStyle($(".middle")).paddingLeft);
  const room = Math.min((clientWidth - padding - gap) / across / (WIDTH + 1), (clientHeight - 36) / HEIGHT);
  const scale = room * density < 1 ? room : Math.floor(room * density) / density;
  const style = $(".middle").style;
  style.setProperty("--width", `${scale * WIDTH}px`);
  style.setProperty("--height", `${scale * HEIGHT}px`);
  style.setProperty("--film", `${scale * (2 * WIDTH + 2)}px`);
  style.setProperty("--pixels", pixels(scale * density));
}

/** The next made sample before (-1) or after (1) the enlarged one, or null. */
function neighbour(direction) {
  let row = shown.indexOf(viewed.reference);
  let variation = viewed.variation + direction;
  for (; row >= 0 && row < shown.length; row += direction) {
    const count = variations(shown[row]);
    for (; variation >= 0 && variation < count; variation += direction) {
      if (sampleUrl(shown[row], variation)) return { reference: shown[row], variation };
    }
    variation = direction > 0 ? 0 : variations(shown[row + direction] ?? shown[row]) - 1;
  }
  return null;
}

function go(direction) {
  const sample = neighbour(direction);
  if (sample) view(sample);
}
