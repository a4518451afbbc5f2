import { mkdir, mkdtemp, readdir, readFile, stat, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { defaultCodecs, elementCount } from "@tensorwire/core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CliProcess, type Ended, json, type MadeTensor, makeModel, run } from "./cli-process.js";

const TENSORS: MadeTensor[] = [
  // Over one chunk, and no multiple of a block.
  { name: "embed.weight", dtype: "F32", shape: [1201, 1031] },
  { name: "bias", dtype: "F32", shape: [33] },
  { name: "scalar", dtype: "F32", shape: [] },
  { name: "empty", dtype: "F32", shape: [0, 4] },
  { name: "ids", dtype: "I64", shape: [17] },
];

let folder: string;
let model: string;
let original: Buffer;
let data: Map<string, Uint8Array>;
const at = (name: string): string => join(folder, name);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-cli-"));
  model = at("model.safetensors");
  data = await makeModel(model, TENSORS);
  original = await readFile(model);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Runs `send` and `receive` against each other; either may be the one that listens. */
async function transfer(
  send: string[],
  receive: string[],
  listening: "send" | "receive",
): Promise<[Ended, Ended]> {
  const listen = ["--listen", "127.0.0.1:0", "--json"];
  const waiting = new CliProcess(listening === "send" ? [...send, ...listen] : [...receive, ...listen]);
  const url = await waiting.url();
  const dialling = await run(...(listening === "send" ? receive : send), url, "--json");
  const waited = await waiting.ended;
  return listening === "send" ? [waited, dialling] : [dialling, waited];
}

describe.each(["receive", "send"] as const)("%s listens", (listening) => {
  test("a model arrives byte for byte with none", async () => {
    const out = at(`${listening}-none.safetensors`);
    const [sent, received] = await transfer(["send", model], ["receive", "--out", out], listening);
    expect(sent.stderr + received.stderr).not.toContain("tensorwire: CHANNEL");
    expect([sent.code, received.code]).toEqual([0, 0]);
    expect(original.equals(await readFile(out))).toBe(true);
    expect(json(sent).digest).toBe(json(received).digest);
    expect([json(sent).confirmed, json(received).confirmed]).toEqual([true, true]);
  });

  test("a model arrives as normfloat4 decodes it", async () => {
    const out = at(`${listening}-nf4.safetensors`);
    const [sent, received] = await transfer(
      [
        "send",
        model,
        "--codec",
        "normfloat4:block=128",
        "--min-elements",
        "0",
        "--chunk",
        "1M",
        "--window",
        "2MiB",
      ],
      ["receive", "--out", out, "--window", "2MiB"],
      listening,
    );
    expect([sent.code, received.code]).toEqual([0, 0]);
    // The payloads of a scalar and of nothing would not be smaller.
    expect(json(sent).codecs).toMatchObject({ normfloat4: { tensors: 2 }, none: { tensors: 3 } });
    expect(json(sent).wireBytes).toBeLessThan(original.length / 7);
    const head = original.length - [...data.values()].reduce((sum, { length }) => sum + length, 0);
    const arrived = await readFile(out);
    expect(arrived.subarray(0, head).equals(original.subarray(0, head))).toBe(true);
    expect(arrived.subarray(head).equals(quantized())).toBe(true);
  });
});

/** The model's data, encoded and decoded whole by the reference. */
function quantized(): Buffer {
  const codec = defaultCodecs.get("normfloat4");
  const spec = codec.resolve({ name: "normfloat4", block: 128 });
  const parts = TENSORS.map(({ name, dtype, shape }) => {
    const source = data.get(name)!;
    const elements = elementCount(shape);
    if (dtype !== "F32" || codec.payloadBytes(spec, dtype, elements) >= source.length) return source;
    const payload = new Uint8Array(codec.payloadBytes(spec, dtype, elements));
    const target = new Uint8Array(source.length);
    codec.encode(spec, dtype, elements, source, payload);
    codec.decode(spec, dtype, elements, payload, dtype, target);
    return target;
  });
  return Buffer.concat(parts);
}

test("a policy file decides tensor by tensor, and --output-dtype converts what arrives", async () => {
  const policy = at("policy.json");
  await writeFile(
    policy,
    JSON.stringify({ rules: [{ match: "embed.*", codec: "bfloat16" }], codec: "none" }),
  );
  const out = at("policy.safetensors");
  const [sent] = await transfer(
    ["send", model, "--policy", policy],
    ["receive", "--out", out, "--output-dtype", "bf16"],
    "receive",
  );
  expect(json(sent).codecs).toMatchObject({ bfloat16: { tensors: 1 }, none: { tensors: 4 } });
  const shown = json(await run("inspect", out, "--json"));
  expect(shown.tensors.map(({ dtype }: { dtype: string }) => dtype)).toEqual([
    "BF16",
    "BF16",
    "BF16",
    "BF16",
    "I64",
  ]);
});

test("a raw file arrives byte for byte, a model too where --raw says so", async () => {
  const notes = at("notes.bin");
  await writeFile(notes, Buffer.from("any bytes\0at all\n".repeat(1000)));
  const [sent, received] = await transfer(["send", notes], ["receive", "--out", at("notes.out")], "receive");
  expect([sent.code, received.code]).toEqual([0, 0]);
  expect((await readFile(notes)).equals(await readFile(at("notes.out")))).toBe(true);

  const [raw] = await transfer(["send", model, "--raw"], ["receive", "--out", at("model.raw")], "send");
  expect(json(raw).tensors).toBe(1);
  expect(original.equals(await readFile(at("model.raw")))).toBe(true);
});

test("shards are written where --shard-size says so, and read back as one model", async () => {
  const shards = at("shards");
  await mkdir(shards);
  const [, received] = await transfer(
    ["send", model],
    ["receive", "--out", join(shards, "model.safetensors.index.json"), "--shard-size", "1MiB"],
    "receive",
  );
  expect(received.stderr).not.toContain("tensorwire: T");
  expect(received.code).toBe(0);
  const names = await readdir(shards);
  expect(names.filter((name) => name.endsWith(".safetensors")).length).toBeGreaterThan(1);
  const back = at("shards-back.safetensors");
  const [sent] = await transfer(["send", shards], ["receive", "--out", back], "receive");
  expect(sent.code).toBe(0);
  expect(json(await run("inspect", back, "--json")).totals).toEqual(
    json(await run("inspect", model, "--json")).totals,
  );
});

describe("artifacts", () => {
  test("pack, inspect, unpack and send", async () => {
    const artifact = at("model.twire");
    const packed = await run(
      "pack",
      model,
      artifact,
      "--codec",
      "normfloat4:block=128",
      "--min-elements",
      "0",
      "--json",
    );
    expect(packed.code).toBe(0);
    expect(json(packed)).toMatchObject({ confirmed: true, codecs: { normfloat4: { tensors: 2 } } });

    const shown = json(await run("inspect", artifact, "--json"));
    expect(shown.tensors[0]).toMatchObject({
      name: "embed.weight",
      dtype: "F32",
      shape: [1201, 1031],
      bytes: 4 * 1201 * 1031,
      codec: { name: "normfloat4", block: 128 },
      payloadBytes: Math.ceil((1201 * 1031) / 2) + 4 * Math.ceil((1201 * 1031) / 128),
    });
    const { codeBytes, scaleBytes, digest, sourceBytes } = json(packed);
    expect(shown.totals).toMatchObject({
      payloadBytes: codeBytes + scaleBytes,
      bytes: sourceBytes,
      tensors: 5,
    });
    expect(shown.artifact).toMatchObject({ digest, fallbackChunks: 0 });
    expect(shown.artifact.fileBytes).toBe((await readFile(artifact)).length);

    const unpacked = await run("unpack", artifact, at("unpacked.safetensors"), "--json");
    expect(unpacked.code).toBe(0);
    expect(json(unpacked).digest).toBe(digest);
    const arrived = await readFile(at("unpacked.safetensors"));
    expect(arrived.subarray(-quantized().length).equals(quantized())).toBe(true);

    // Served without being encoded again, and kept as it is at the other end.
    const [, received] = await transfer(["send", artifact], ["receive", "--out", at("kept.twire")], "send");
    expect(received.code).toBe(0);
    expect(json(received).digest).toBe(digest);
    expect(json(await run("inspect", at("kept.twire"), "--json")).artifact).toMatchObject({
      digest,
      indexed: true,
    });
    expect((await run("inspect", at("kept.twire"))).stdout).toContain(", with an index; ");
  });

  test("an artifact of a raw file becomes that file again", async () => {
    expect((await run("pack", model, at("raw.twire"), "--raw")).code).toBe(0);
    expect((await run("unpack", at("raw.twire"), at("raw.back"))).code).toBe(0);
    expect(original.equals(await readFile(at("raw.back")))).toBe(true);
  });

  test("a web server's artifact is received by its URL", async () => {
    expect((await run("pack", model, at("served.twire"))).code).toBe(0);
    const bytes = await readFile(at("served.twire"));
    const server = createServer((_request, response) => void response.end(bytes)).listen(0, "127.0.0.1");
    try {
      await new Promise((resolve) => server.once("listening", resolve));
      const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/served.twire`;
      const received = await run("receive", url, "--out", at("served.safetensors"), "--json");
      expect(received.code).toBe(0);
      expect(original.equals(await readFile(at("served.safetensors")))).toBe(true);
    } finally {
      server.close();
    }
  });
});

describe("pipes", () => {
  test("stdout of send is stdin of receive", async () => {
    const out = at("piped.safetensors");
    const receiver = new CliProcess(["receive", "-", "--out", out, "--json"]);
    const sender = new CliProcess(["send", model, "-", "--json"]);
    sender.child.stdout!.pipe(receiver.child.stdin!);
    const [sent, received] = await Promise.all([sender.ended, receiver.ended]);
    expect([sent.code, received.code]).toEqual([0, 0]);
    expect(original.equals(await readFile(out))).toBe(true);
    expect(json(received).confirmed).toBe(false);
    // The pipe carries the model and nothing else: the result is on stderr.
    const result = JSON.parse(sent.stderr.trimEnd().split("\n").at(-1)!);
    expect(result).toMatchObject({ confirmed: false, digest: json(received).digest });
  });

  test("a stream that was kept is an artifact, and an artifact can be piped in", async () => {
    const sender = new CliProcess(["send", model, "-", "--quiet"]);
    const portions: Buffer[] = [];
    sender.child.stdout!.on("data", (portion) => portions.push(portion));
    expect((await sender.ended).code).toBe(0);
    await writeFile(at("kept-stream.twire"), Buffer.concat(portions));
    expect((await run("inspect", at("kept-stream.twire"))).code).toBe(0);

    const receiver = new CliProcess(["receive", "-", "--out", at("from-stream.safetensors")]);
    receiver.child.stdin!.end(Buffer.concat(portions));
    expect((await receiver.ended).code).toBe(0);
    expect(original.equals(await readFile(at("from-stream.safetensors")))).toBe(true);
  });

  test("an artifact with its index is piped in to its last byte", async () => {
    const kept = at("piped.twire");
    expect((await run("pack", model, kept, "--chunk", "32K", "--quiet")).code).toBe(0);
    const bytes = await readFile(kept);
    const receiver = new CliProcess(["receive", "-", "--out", at("from-artifact.safetensors"), "--json"]);
    const broken: Error[] = [];
    receiver.child.stdin!.on("error", (error) => broken.push(error));
    receiver.child.stdin!.write(bytes.subarray(0, -10));
    // The rest comes when it may have all that it needs.
    setTimeout(() => receiver.child.stdin!.end(bytes.subarray(-10)), 300);
    expect((await receiver.ended).code).toBe(0);
    expect(broken).toEqual([]);
    expect(original.equals(await readFile(at("from-artifact.safetensors")))).toBe(true);
  });

  test("a reader that leaves ends the sender, and a truncated stream the receiver, which leaves nothing under the name", async () => {
    const sender = new CliProcess(["send", model, "-"]);
    sender.child.stdout!.once("data", () => sender.child.stdout!.destroy());
    const sent = await sender.ended;
    expect([sent.code, sent.signal]).toEqual([5, null]);
    expect(sent.stderr).toMatch(/^tensorwire: CHANNEL_CLOSED: /m);

    expect((await run("pack", model, at("whole.twire"))).code).toBe(0);
    const whole = await readFile(at("whole.twire"));
    const receiver = new CliProcess(["receive", "-", "--out", at("truncated.safetensors"), "--json"]);
    receiver.child.stdin!.write(whole.subarray(0, whole.length - 1000));
    // What is gone on with is what was there: the stream is cut once something is.
    const part = "truncated.safetensors.part";
    const written = () =>
      stat(at(part))
        .then(({ blocks }) => blocks > 0)
        .catch(() => false);
    while (!(await written())) await new Promise((resolve) => setTimeout(resolve, 20));
    receiver.child.stdin!.end();
    const received = await receiver.ended;
    expect(received.code).toBe(5);
    expect(json(received).error).toMatchObject({ code: "CHANNEL_CLOSED", retryable: true });
    expect((await readdir(folder)).filter((name) => name.startsWith("truncated")).sort()).toEqual([
      part,
      `${part}.journal`,
    ]);
  });
});
