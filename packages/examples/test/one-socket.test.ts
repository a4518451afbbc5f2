import { expect, test } from "vitest";
import { run } from "./program.js";

test("weights come back over one WebSocket in either way, and in less memory as a model", async () => {
  const { code, stdout, stderr } = await run("one-socket/main", ["--mib", "64", "--json"]);
  expect(code, stderr).toBe(0);
  const [message, channel] = stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect([message.way, channel.way]).toEqual(["message", "channel"]);
  expect(channel.server.peakRssBytes).toBeLessThan(message.server.peakRssBytes);
}, 60_000);
