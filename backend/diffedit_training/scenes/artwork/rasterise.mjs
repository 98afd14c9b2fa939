// Draws the Noto emoji of this folder: SVG bodies of the npm package @iconify-json/noto -> 512 px RGBA PNGs.
// Run once, by hand, in an empty folder; it is no part of the running program:
//   npm install @iconify-json/noto@1.2.9 @resvg/resvg-js@2.6.2 && cp PATH/rasterise.mjs . && node rasterise.mjs OUT_FOLDER
import { readFileSync, writeFileSync } from "node:fs";
import { Resvg } from "@resvg/resvg-js";

const SIZE = 512;
const ICON_OF_CLASS = {
  apple: "red-apple", pear: "pear", banana: "banana", orange: "tangerine", horse: "horse", zebra: "zebra",
  cat: "cat", dog: "dog", car: "automobile", bus: "bus", tree: "deciduous-tree", flower: "tulip",
};

const set = JSON.parse(readFileSync("node_modules/@iconify-json/noto/icons.json", "utf8"));
for (const [name, icon] of Object.entries(ICON_OF_CLASS)) {
  const { body, width = set.width ?? 16, height = set.height ?? 16 } = set.icons[icon];
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"
    viewBox="0 0 ${width} ${height}">${body}</svg>`;
  const png = new Resvg(svg, { fitTo: { mode: "width", value: SIZE } }).render().asPng();
  writeFileSync(`${process.argv[2]}/${name}.png`, png);
}
