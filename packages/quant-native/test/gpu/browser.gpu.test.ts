import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, it } from "vitest";

const ROOT = fileURLToPath(new URL("../../../../", import.meta.url));
const PAGE = "/packages/quant-native/test/gpu/browser-page.html";
const TYPES: Record<string, string> = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".mjs": "text/javascript",
};

const chromium = ["chromium", "chromium-browser", "google-chrome"].find(
  (name) => spawnSync(name, ["--version"]).status === 0,
);

/** Without a display, a sandbox (CI runs as root) or a GPU: WebGPU on SwiftShader. */
const FLAGS = [
  "--headless=new",
  "--no-sandbox",
  "--enable-unsafe-webgpu",
  "--use-webgpu-adapter=swiftshader",
];

let server: Server | undefined;
let browser: ChildProcess | undefined;
const profile = mkdtempSync(join(tmpdir(), "tensorwire-browser-"));
afterAll(async () => {
  server?.close();
  if (browser?.exitCode === null) {
    const gone = new Promise((resolve) => browser!.once("exit", resolve));
    browser.kill();
    await gone;
  }
  rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
});

/** Serves this repository, and resolves with what the page posts. */
function served(): { origin: Promise<string>; result: Promise<unknown> } {
  let posted: (result: unknown) => void = () => {};
  const result = new Promise<unknown>((resolve) => {
    posted = resolve;
  });
  server = createServer((request, response) => {
    if (request.method === "POST") {
      const parts: Buffer[] = [];
      request.on("data", (part) => parts.push(part));
      request.on("end", () => {
        response.end();
        posted(JSON.parse(Buffer.concat(parts).toString()));
      });
      return;
    }
    try {
      const path = normalize(new URL(request.url!, "http://localhost").pathname);
      response.setHeader("content-type", TYPES[extname(path)] ?? "application/octet-stream");
      response.end(readFileSync(join(ROOT, path)));
    } catch {
      response.writeHead(404).end();
    }
  });
  const origin = new Promise<string>((resolve) => {
    server!.listen(0, "127.0.0.1", () =>
      resolve(`http://127.0.0.1:${(server!.address() as AddressInfo).port}`),
    );
  });
  return { origin, result };
}

if (chromium === undefined) {
  console.log("SKIPPED: needs chromium: codecs on a browser's GPU");
  it.skip("codecs on a browser's GPU: needs chromium", () => {});
} else {
  it("a page encodes a GPUBuffer, and decodes into one, to the portable codec's bytes", async () => {
    const { origin, result } = served();
    browser = spawn(chromium, [...FLAGS, `--user-data-dir=${profile}`, `${await origin}${PAGE}`], {
      stdio: "ignore",
      // Its own driver, and not the one that tests in Node have.
      env: { ...process.env, VK_ICD_FILENAMES: undefined, LD_LIBRARY_PATH: undefined },
    });
    const ended = new Promise<never>((_, reject) => {
      browser!.once("exit", (code) =>
        reject(new Error(`${chromium} ended with ${code} before the page had a result`)),
      );
    });
    const found = await Promise.race([result, ended]);
    const bytes = 4 * 70_001;
    expect(found).toMatchObject({ differing: [], notices: [], codecs: 12, hostBytes: 0 });
    expect(found).toMatchObject({ backend: expect.stringMatching(/^gpu-/), deviceBytes: 2 * 12 * bytes });
  }, 90_000);
}
