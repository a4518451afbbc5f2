import { readFileSync } from "node:fs";
import {
  BATCH_BYTES,
  defaultCodecs,
  MAX_ASKED_CHARACTERS,
  MAX_MODEL_NAME_BYTES,
  MAX_MODEL_NAME_SEGMENT_BYTES,
  MAX_PATTERN_LENGTH,
  MAX_PATTERNS,
  MAX_SAFETENSORS_HEADER_BYTES,
} from "@tensorwire/core";
import { describe, expect, it } from "vitest";
import { MAX_WAIT_SECONDS } from "../src/agent/local-api.js";
import { MAX_MODELS, MAX_OWNER_MODELS } from "../src/agent/model-store.js";
import { MAX_EXPIRES_SECONDS } from "../src/agent/requests.js";
import { MAX_JSON_BYTES } from "../src/agent/request-body.js";
import { MAX_RUNNING, MAX_TRANSFERS } from "../src/agent/transfer-list.js";
import { AGENT_MEMORY_BYTES } from "../src/cli/agent.js";
import { LINES_AT_ONCE } from "../src/cli/line-bound.js";
import { MIN_BODY_BYTES } from "../src/channel/body-size.js";
import { PAUSES_MS } from "../src/channel/http-attempts.js";
import { MAX_HTTP_CHANNELS } from "../src/channel/http-channels.js";
import { MAX_ANSWER_BYTES, MAX_BODY_BYTES, POLL_MS } from "../src/channel/http-exchange.js";
import { ABSENT_MS, BROKEN_MS } from "../src/channel/http-server-channel.js";
import { MAX_SILENT } from "../src/channel/silent-sockets.js";
import { MAX_EARLY_BYTES } from "../src/channel/early-bytes.js";
import { MAX_PAYLOAD } from "../src/channel/websocket.js";
import { MAX_KNOCKING, MAX_KNOCKING_BYTES } from "../src/door/gate.js";
import { DEFAULT_SERVER_LIMITS } from "../src/index.js";
import {
  DEFAULT_IDLE_TIMEOUT_MS,
  MAX_TIMEOUT_MS,
  MIN_TIMEOUT_MS,
  resolveTimeouts,
  SERVER_STALL_TIMEOUT_MS,
} from "../src/session/timeouts.js";
import { DEFAULT_PARTS_MAX_AGE_MS } from "../src/journal/expiry.js";
import { MAX_TOKEN_BYTES } from "../src/journal/head.js";
import { FORGOTTEN_TOGETHER_BYTES } from "../src/journal/journal.js";
import { MAX_CONCURRENCY } from "../src/remote/concurrency.js";
import { TAIL_BYTES } from "../src/remote/http-reader.js";
import { GAP_BYTES } from "../src/remote/read-ahead.js";
import { MAX_REDIRECTS } from "../src/remote/redirects.js";
import { READ_AHEAD_BYTES } from "../src/source/source.js";
import { MAX_TEXT_FILE_BYTES } from "../src/source/text-file.js";

const root = new URL("../../../", import.meta.url);
const file = (path: string) => readFileSync(new URL(path, root), "utf8");
const page = (name: string) => file(`docs/${name}`);

it("docs/limits.md has the fixed numbers of the code", () => {
  const table = page("limits.md").split("## Fixed numbers")[1]!;
  const numberOf = (name: string) =>
    Number(new RegExp(`^\\| ${name} \\| ([\\d,]+)`, "m").exec(table)?.[1]?.replaceAll(",", ""));
  expect(numberOf("WebSocket message, as taken")).toBe(MAX_PAYLOAD);
  expect(numberOf("bytes of a connection that wait until it is taken")).toBe(MAX_EARLY_BYTES);
  expect(numberOf("body of an HTTP channel's request or answer")).toBe(MAX_BODY_BYTES);
  expect(numberOf("smallest body after a status 413")).toBe(MIN_BODY_BYTES);
  expect(numberOf("what the answer to a PUT brings along")).toBe(MAX_ANSWER_BYTES);
  expect(numberOf("how long a GET waits for an answer")).toBe(POLL_MS);
  expect(numberOf("repetitions of an HTTP request without progress")).toBe(PAUSES_MS.length);
  expect(numberOf("an HTTP peer whose connection broke is gone after")).toBe(BROKEN_MS);
  expect(numberOf("an HTTP peer without any request is gone after")).toBe(ABSENT_MS);
  expect(numberOf("HTTP channels of a server")).toBe(MAX_HTTP_CHANNELS);
  expect(numberOf("read ahead of small tensors")).toBe(READ_AHEAD_BYTES);
  expect(numberOf("requests at once for an artifact on a web server")).toBe(MAX_CONCURRENCY);
  expect(numberOf("last bytes of such an artifact that are fetched first")).toBe(TAIL_BYTES);
  expect(numberOf("bytes between two ranges that are fetched along")).toBe(GAP_BYTES);
  expect(numberOf("redirects of such an artifact")).toBe(MAX_REDIRECTS);
  expect(numberOf("held chunks that are forgotten with one that has changed")).toBe(FORGOTTEN_TOGETHER_BYTES);
  expect(numberOf("version token in a journal")).toBe(MAX_TOKEN_BYTES);
  expect(page("limits.md")).toContain(
    `\`--parts-max-age\` | ${DEFAULT_PARTS_MAX_AGE_MS.toLocaleString("en-US")} |`,
  );
  expect(numberOf("patterns over names in a list")).toBe(MAX_PATTERNS);
  expect(numberOf("characters of all patterns in a HELLO")).toBe(MAX_ASKED_CHARACTERS);
  expect(numberOf("characters of such a pattern")).toBe(MAX_PATTERN_LENGTH);
  expect(numberOf("safetensors header")).toBe(MAX_SAFETENSORS_HEADER_BYTES);
  expect(numberOf("shard index, `model.json`")).toBe(MAX_TEXT_FILE_BYTES);
});

it("docs/limits.md has what a server bears, and what stands before its gate", () => {
  const table = page("limits.md").split("## What a server bears")[1]!.split("\n## ")[0]!;
  const rows = [...table.matchAll(/^\| `(\w+)` \| ([\d,]+) \|/gm)];
  const documented = Object.fromEntries(
    rows.map(([, name, value]) => [name, Number(value!.replaceAll(",", ""))]),
  );
  expect(documented).toEqual(DEFAULT_SERVER_LIMITS);
  const fixed = page("limits.md").split("## Fixed numbers")[1]!;
  for (const [words, value] of [
    ["peers before the gate of a listener with `authorize`, or of a server", MAX_KNOCKING],
    ["bytes of a peer before the gate", MAX_KNOCKING_BYTES],
    ["connections to a web server without a request", MAX_SILENT],
    ["parts of a model's name", MAX_MODEL_NAME_SEGMENT_BYTES],
    ["name of a model", MAX_MODEL_NAME_BYTES],
  ] as const) {
    expect(fixed).toContain(
      `| ${words} | ${value.toLocaleString("en-US").replace(/^(\d),(\d{3})$/, "$1$2")} |`,
    );
  }
});

it("docs/limits.md has what an agent keeps", () => {
  const table = page("limits.md").split("## What an agent keeps")[1]!.split("\n## ")[0]!;
  for (const [words, value] of [
    ["transfers under way", String(MAX_RUNNING)],
    ["transfers that nobody has freed", String(MAX_TRANSFERS)],
    [
      "models that are published there and not freed, or that somebody still fetches or has",
      String(MAX_MODELS),
    ],
    ["such models that one principal has uploaded", String(MAX_OWNER_MODELS)],
    ["JSON of a request", MAX_JSON_BYTES.toLocaleString("en-US")],
    ["how long a program may wait for an answer", `${MAX_WAIT_SECONDS} s`],
    [
      "how long anything may stay that nobody frees (`--keep`, `expiresSeconds`)",
      `${MAX_EXPIRES_SECONDS.toLocaleString("en-US")} s`,
    ],
    [
      "memory of its transfers, where `--memory` says nothing else",
      `${AGENT_MEMORY_BYTES / 2 ** 20} MiB each way`,
    ],
    ["lines of refusals, failures and interruptions, at once", String(LINES_AT_ONCE)],
  ]) {
    expect(table).toContain(`| ${words} | ${value} |`);
  }
});

describe("docs/limits.md, of how long a peer may be silent", () => {
  const text = page("limits.md").split("## How long a peer may be silent")[1]!.split("\n## ")[0]!;
  const number = (digits: string) => Number(digits.replaceAll(",", ""));

  it("has the times of the code", () => {
    const found = [...text.matchAll(/^\| ([^|]+) \| ([\d,]+) \|/gm)].map(([, name, value]) => [
      name,
      number(value!),
    ]);
    const { idleTimeoutMs, stallTimeoutMs } = resolveTimeouts({});
    expect(Object.fromEntries(found)).toEqual({
      "`idleTimeoutMs`": idleTimeoutMs,
      "`stallTimeoutMs`": stallTimeoutMs,
      "`stallTimeoutMs` of a server": SERVER_STALL_TIMEOUT_MS,
      "smallest of either": MIN_TIMEOUT_MS,
      "largest of either": MAX_TIMEOUT_MS,
    });
  });

  it("computes the rate that a line needs as it says", () => {
    const units: Record<string, number> = { KiB: 1024, MiB: 1024 ** 2 };
    const table = [...text.matchAll(/^\| (\d+) (KiB|MiB) \| `(\w+)` \| ([\d,]+) \|$/gm)];
    expect(table.length).toBeGreaterThan(3);
    for (const [, count, unit, name, rate] of table) {
      const elements = (Number(count) * units[unit!]!) / 4;
      const codec = defaultCodecs.get(name!);
      const payload = codec.payloadBytes(codec.resolve({ name: name! }), "F32", elements);
      const least = (payload + BATCH_BYTES) / (DEFAULT_IDLE_TIMEOUT_MS / 1000);
      expect(number(rate!), `${count} ${unit} as ${name}`).toBe(Math.ceil(least));
    }
  });
});
