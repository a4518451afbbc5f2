import { existsSync } from "node:fs";
import { type Browser, chromium } from "playwright-core";
import { afterAll } from "vitest";

const PATH = "/usr/bin/chromium";

/** Debian's browser; whatever needs it is left out where it is not. */
export const hasChromium = existsSync(PATH);
if (!hasChromium) console.log("SKIPPED: needs chromium");

// It talks to nobody but the server under test.
const ARGUMENTS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

let browser: Promise<Browser> | undefined;

/** One for all tests of a file, with an empty profile. */
export function openBrowser(): Promise<Browser> {
  browser ??= chromium.launch({ executablePath: PATH, args: ARGUMENTS });
  return browser;
}

afterAll(async () => (await browser)?.close());
