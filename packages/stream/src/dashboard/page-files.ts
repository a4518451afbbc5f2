import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

/** What a browser gets. The files lie in the package's folder `dashboard`; no request names one. */
const TYPES = {
  "index.html": "text/html; charset=utf-8",
  "page.css": "text/css; charset=utf-8",
  "page.js": "text/javascript; charset=utf-8",
  "chart.js": "text/javascript; charset=utf-8",
  "elements.js": "text/javascript; charset=utf-8",
  "figures.js": "text/javascript; charset=utf-8",
  "history.js": "text/javascript; charset=utf-8",
  "transfers.js": "text/javascript; charset=utf-8",
  "icon.svg": "image/svg+xml",
};

export interface PageFile {
  /** Behind the dashboard's own path; empty for the page itself. */
  readonly name: string;
  readonly type: string;
  readonly body: Buffer;
}

/** The page and what belongs to it. */
export async function pageFiles(): Promise<readonly PageFile[]> {
  // By the package's name: what was built may lie at another depth than its sources.
  const root = dirname(createRequire(import.meta.url).resolve("@tensorwire/stream/package.json"));
  return Promise.all(
    Object.entries(TYPES).map(async ([name, type]) => ({
      name: name === "index.html" ? "" : name,
      type,
      body: await readFile(join(root, "dashboard", name)),
    })),
  );
}
