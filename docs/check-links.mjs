// After the build: every link of the site leads to a page, a file and an anchor that there are.
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, posix, relative } from "node:path";
import { fileURLToPath } from "node:url";

const site = join(dirname(fileURLToPath(import.meta.url)), ".vitepress/dist");
const pages = readdirSync(site, { recursive: true, encoding: "utf8" }).filter((path) =>
  path.endsWith(".html"),
);
const text = (html) => html.replaceAll("&amp;", "&").replaceAll("&#39;", "'").replaceAll("&quot;", '"');

const anchors = new Map();
const links = new Map();
for (const path of pages) {
  const html = readFileSync(join(site, path), "utf8");
  anchors.set(path, new Set([...html.matchAll(/\sid="([^"]*)"/g)].map(([, id]) => text(id))));
  links.set(path, new Set([...html.matchAll(/\s(?:href|src)="([^"]*)"/g)].map(([, href]) => text(href))));
}

/** The file of the site that a path of it gives: as a web server with clean URLs answers. */
function fileOf(path) {
  const inside = relative("/", path);
  const candidates = path.endsWith("/")
    ? [`${inside}/index.html`]
    : [inside, `${inside}.html`, `${inside}/index.html`];
  return candidates
    .map((candidate) => candidate.replace(/^\//, ""))
    .find((candidate) => existsSync(join(site, candidate)) && statSync(join(site, candidate)).isFile());
}

const dead = [];
for (const [page, targets] of links) {
  for (const target of targets) {
    if (/^([a-z]+:|\/\/)/i.test(target)) continue;
    const [path, anchor] = target.split("#");
    const file = path === "" ? page : fileOf(posix.resolve("/", posix.dirname(page), decodeURI(path)));
    const found =
      file !== undefined &&
      (!anchor || !anchors.has(file) || anchors.get(file).has(decodeURIComponent(anchor)));
    if (!found) dead.push(`${page}: ${target}`);
  }
}
if (pages.length === 0) dead.push(`${relative(process.cwd(), site)} has no pages`);
for (const line of dead) console.error(`dead link: ${line}`);
console.log(`${pages.length} pages, ${dead.length} dead links`);
process.exitCode = dead.length === 0 ? 0 : 1;
