// Draws SVGs as PNGs, 512 px wide: `node rasterise.mjs JOBS.json`, a list of {svg: path} or {set, icon} with {out: path}.
// `collect.py` runs it, by hand, where the npm packages of SOURCE.md are installed; it is no part of the program.
import { readFileSync, writeFileSync } from "node:fs";
import { Resvg } from "@resvg/resvg-js";

const SIZE = 512;
const sets = {};

function icon(set, name) {
  sets[set] ??= JSON.parse(readFileSync(`node_modules/@iconify-json/${set}/icons.json`, "utf8"));
  const icons = sets[set];
  const { body, width = icons.width ?? 16, height = icons.height ?? 16 } = icons.icons[name];
  return `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"
    viewBox="0 0 ${width} ${height}">${body}</svg>`;
}

for (const { svg, set, name, out } of JSON.parse(readFileSync(process.argv[2], "utf8"))) {
  const text = svg ? readFileSync(svg) : icon(set, name);
  writeFileSync(out, new Resvg(text, { fitTo: { mode: "width", value: SIZE } }).render().asPng());
}
