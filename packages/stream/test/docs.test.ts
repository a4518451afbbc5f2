import { existsSync, readdirSync, readFileSync } from "node:fs";
import { PassThrough, Readable } from "node:stream";
import {
  BATCH_BYTES,
  CodecRegistry,
  defaultCodecs,
  ERROR_CODES,
  HEADER_BYTES,
  MAX_ASKED_CHARACTERS,
  MAX_MODEL_NAME_BYTES,
  MAX_MODEL_NAME_SEGMENT_BYTES,
  MAX_PATTERN_LENGTH,
  MAX_PATTERNS,
  MAX_SAFETENSORS_HEADER_BYTES,
  none,
  TensorwireError,
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
import { EXIT_CODES, exitCodeOf } from "../src/cli/exit-code.js";
import { MAX_KNOCKING, MAX_KNOCKING_BYTES } from "../src/door/gate.js";
import { ConnectionTrace } from "../src/diagnostics/connection-trace.js";
import { EVENT_NAMES, listenTo, publish } from "../src/diagnostics/events.js";
import { METRIC_NAMES, METRICS, openTelemetryName, prometheusName } from "../src/diagnostics/metrics.js";
import { TransferTrace } from "../src/diagnostics/transfer-trace.js";
import {
  DEFAULT_SERVER_LIMITS,
  memoryChannelPair,
  modelDigest,
  receiveModel,
  streamModel,
} from "../src/index.js";
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

/** The first fenced block with this info string, as bytes; what follows a # is a comment. */
function example(info: string): Uint8Array {
  const block = new RegExp(`^\`\`\`${info}\n(.*?)^\`\`\`$`, "ms").exec(page("wire-format.md"))![1]!;
  return Buffer.from(block.replace(/#.*$/gm, "").replace(/\s/g, ""), "hex");
}

/** Where the MANIFEST begins: behind the preamble and the HELLO, which names the software. */
function afterHello(stream: Uint8Array): Uint8Array {
  const view = new DataView(stream.buffer, stream.byteOffset, stream.length);
  return stream.subarray(8 + HEADER_BYTES + view.getUint32(8 + 8, true));
}

describe("the worked example of docs/wire-format.md", () => {
  const sent = example("sender");

  it("has the model's digest", async () => {
    const tensors = { x: { dtype: "F32", shape: [3], data: Float32Array.of(1, -0.5, 0.25) } } as const;
    const digest = Buffer.from(example("model-digest")).toString("hex");
    expect(await modelDigest(tensors)).toBe(`sha256:${digest}`);
  });

  it("is what a sender writes, but for the HELLO's words", async () => {
    const writable = new PassThrough();
    const written: Buffer[] = [];
    writable.on("data", (portion: Buffer) => written.push(portion));
    const tensors = { x: { dtype: "F32", shape: [3], data: Float32Array.of(1, -0.5, 0.25) } } as const;
    const options = { chunkBytes: 32768, registry: new CodecRegistry([none]) };
    const summary = await streamModel(tensors, { writable }, options);
    expect(Buffer.from(afterHello(Buffer.concat(written))).toString("hex")).toBe(
      Buffer.from(afterHello(sent)).toString("hex"),
    );
    expect(page("wire-format.md")).toContain(`\`${summary.digest}\``);
  });

  it("is a model that a receiver takes", async () => {
    const model = receiveModel({ readable: Readable.from([sent]) });
    const found = [];
    for await (const { name, dtype, shape, data } of model) {
      found.push({ name, dtype, shape, data: [...new Float32Array(data.slice().buffer)] });
    }
    expect(found).toEqual([{ name: "x", dtype: "F32", shape: [3], data: [1, -0.5, 0.25] }]);
    expect(await model.done).toMatchObject({ tensors: 1, chunks: 1, sourceBytes: 12, confirmed: false });
  });
});

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

it("docs/guides/security.md names tests that exist", () => {
  const guide = page("guides/security.md");
  const cells = [...guide.matchAll(/^\|.*\| ([^|]+) \|$/gm)].map(([, cell]) => cell!).join("\n");
  const named = [...cells.matchAll(/`([a-z-]+)` \(([^)]+)\)/g)];
  expect(named.length).toBeGreaterThan(15);
  for (const [, suite, tests] of named) {
    const text = file(`packages/stream/test/${suite}.test.ts`);
    for (const name of tests!.split("; ")) {
      const words = name.replace(/^.*: /, "");
      if (/^`/.test(words)) continue;
      expect(text, `${suite}: ${words}`).toContain(words);
    }
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

describe("docs/guides/observability.md", () => {
  const guide = page("guides/observability.md");
  const rowsOf = (title: string) => {
    const text = guide.split(`\n## ${title}\n`)[1]!.split("\n## ")[0]!;
    return [...text.matchAll(/^\| (`.*) \|$/gm)].map(([, row]) =>
      row!.split(/\s*\|\s*/).map((cell) => cell.replaceAll("`", "")),
    );
  };

  it("has every event, and what its message has", async () => {
    const heard = new Map<string, object>();
    const listeners = EVENT_NAMES.map((name) => [name, (message: object) => void heard.set(name, message)]);
    const stop = listenTo(Object.fromEntries(listeners));
    const trace = new TransferTrace("send", undefined);
    const error = new TensorwireError("CHANNEL_CLOSED", "cut");
    trace.resume(2);
    trace.checkpoint(3);
    trace.retry(2, 1, error);
    trace.chunk({ tensor: 0, index: 0, ordinal: 0, first: 0, elements: 1, bytes: 4 } as never, {} as never);
    trace.end(error, 0);
    new ConnectionTrace(memoryChannelPair()[0]).close();
    publish("tensorwire:server:refuse", () => ({
      server: {},
      code: "FORBIDDEN",
      reason: "",
      peer: undefined,
    }));
    stop();
    const documented = rowsOf("Events").map(([name, , message]) => [
      name,
      message!
        .replace(/ \([^)]*\)/g, "")
        .split(", ")
        .sort(),
    ]);
    const found = [...heard].map(([name, message]) => [name, Object.keys(message).sort()]);
    expect(Object.fromEntries(documented)).toEqual(Object.fromEntries(found));
    expect(documented.map(([name]) => name)).toEqual(EVENT_NAMES);
  });

  it("has every metric, as Prometheus and as OpenTelemetry spell it", () => {
    const found = rowsOf("Prometheus").map(([name, kind, labels, help]) => [name, kind, labels, help]);
    expect(found).toEqual(
      METRIC_NAMES.map((name) => {
        const { kind, labels, help } = METRICS[name];
        return [prometheusName(name), kind, labels.join(", "), help];
      }),
    );
    const spelt = rowsOf("OpenTelemetry").filter(([, kind]) =>
      ["counter", "gauge", "histogram"].includes(kind!),
    );
    expect(spelt).toEqual(METRIC_NAMES.map((name) => [openTelemetryName(name), METRICS[name].kind]));
  });

  it("has every span and attribute", () => {
    const source = file("packages/stream/src/diagnostics/opentelemetry.ts");
    const attributes = new Set(
      [...source.matchAll(/"(tensorwire\.[a-z_.]+|error\.type)"/g)].map(([, name]) => name!),
    );
    expect(attributes.size).toBeGreaterThan(10);
    for (const name of [...attributes, "tensorwire.send", "tensorwire.receive"])
      expect(guide).toContain(`\`${name}\``);
  });
});

it("docs/errors.md has the command's exit code of every code", () => {
  const table = page("errors.md").split("## Exit codes")[1]!;
  const documented = new Map<string, number>();
  const exits: number[] = [];
  for (const [, exit, codes] of table.matchAll(/^\| (\d+) \|[^|]*\|([^|]*)\|$/gm)) {
    exits.push(Number(exit));
    for (const [, code] of codes!.matchAll(/`(\w+)`/g)) documented.set(code!, Number(exit));
  }
  expect(exits).toEqual(Object.values(EXIT_CODES));
  for (const code of ERROR_CODES) expect(documented.get(code), code).toBe(exitCodeOf(code));
});

describe("docs/architecture.md", () => {
  const rooms = new Map<string, string[]>();
  let room: string[] = [];
  const table = page("architecture.md").split("## Rooms")[1]!.split("\n## ")[0]!;
  for (const [, place, names] of table.matchAll(/^\| (`packages\/\S+`)? *\| ([^|]+) \|/gm)) {
    if (place) rooms.set(place.slice(1, -1), (room = []));
    for (const [, name] of names!.matchAll(/`([\w.-]+)`/g)) room.push(name!);
  }
  const folders = [...rooms].filter(([folder]) => folder.includes("/src"));

  it("names files that exist", () => {
    expect(folders.length).toBeGreaterThan(10);
    for (const [folder, names] of rooms) {
      for (const name of names) {
        const found = ["", ".ts", ".mjs"].some((end) => existsSync(new URL(`${folder}/${name}${end}`, root)));
        expect(found, `${folder}/${name}`).toBe(true);
      }
    }
  });

  it.each(folders)("names every file of %s", (folder, names) => {
    if (folder.endsWith("/cli")) return;
    const files = readdirSync(new URL(folder, root)).filter(
      (file) => file.endsWith(".ts") && file !== "index.ts",
    );
    expect([...names].sort()).toEqual(files.map((file) => file.slice(0, -3)).sort());
  });
});
