import { expect, test } from "vitest";
import { run } from "./program.js";

test("every channel moves its frames, and has a row beside bare sockets", async () => {
  const { stdout, stderr } = await run("bench/channels", ["--bytes", "8MiB", "--rounds", "1"]);
  const rows = stdout.split("\n").map((line) => line.split(/ {2,}/)[0]);
  const expected = [
    "bare TCP",
    "bare http POST",
    "pipe",
    "websocket",
    "http",
    "http, pulled",
    "tcp",
    "unix",
    "memory",
    "web streams",
  ];
  for (const name of expected) expect(rows, stderr).toContain(name);
  // What a machine under test measures is not this test's: only that it is held to the bar.
  expect(stdout).toMatch(/^(PASS|FAIL) {2}websocket at \d+\.\d+ of bare TCP, at least 0.8$/m);
});
