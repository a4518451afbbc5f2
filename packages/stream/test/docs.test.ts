import { existsSync, readdirSync, readFileSync } from "node:fs";
import { PassThrough, Readable } from "node:stream";
import { CodecRegistry, ERROR_CODES, HEADER_BYTES, none } from "@tensorwire/core";
import { describe, expect, it } from "vitest";
import { EXIT_CODES, exitCodeOf } from "../src/cli/exit-code.js";
import { modelDigest, receiveModel, streamModel } from "../src/index.js";

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
