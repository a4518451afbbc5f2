import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { fromTensors, receiveModel, streamModel } from "../src/index.js";
import { makeModel } from "./cli-process.js";
import { at, ELEMENTS, hasSpool, serving, spool } from "./spool-fixture.js";

const tensor = (value: number) => ({
  dtype: "F32" as const,
  shape: [ELEMENTS],
  data: new Float32Array(ELEMENTS).fill(value),
});

hasSpool();

/** A model whose second half waits until it is let go. */
function halting(value: number) {
  let [began, release]: (() => void)[] = [];
  const begun = new Promise<void>((resolve) => {
    began = resolve;
  });
  const rest = new Promise<void>((resolve) => {
    release = resolve;
  });
  const infos = ["a", "b"].map((name) => ({ name, dtype: "F32" as const, shape: [ELEMENTS] }));
  const source = () =>
    fromTensors(
      infos,
      (async function* () {
        yield { name: "a", ...tensor(value) };
        began!();
        await rest;
        yield { name: "b", ...tensor(value) };
      })(),
    );
  return { source, begun, release: release! };
}

async function lastValue(url: string): Promise<number> {
  const model = receiveModel(url);
  let value = Number.NaN;
  for await (const { data } of model) value = new Float32Array(data.slice().buffer)[0]!;
  await model.done;
  return value;
}

describe("a version that is being encoded", () => {
  test("reaches whoever asked for it, though there is a newer one by then", async () => {
    const server = await serving();
    const { source, begun, release } = halting(1);
    await server.publish("m", source, { spool, chunkBytes: 32768 });
    const first = lastValue(server.urlOf("m"));
    await begun;
    await server.publish("m", { a: tensor(2) }, { spool });
    expect(await lastValue(server.urlOf("m"))).toBe(2);
    release();
    expect(await first).toBe(1);
    expect(server.published("m").earlier).toMatchObject([{ version: 1, artifacts: [{ codec: "none" }] }]);
  });

  test("is gone with all its files where it was given up meanwhile", async () => {
    const server = await serving();
    const { source, begun, release } = halting(1);
    const retention = { versions: 1 };
    const codecs = ["none", "float16"];
    const publishing = server.publish("m", source, { spool, codecs, retention, encode: "now" });
    publishing.catch(() => {});
    await begun;
    const next = server.publish("m", { a: tensor(2) }, { spool, retention });
    await new Promise((resolve) => setTimeout(resolve, 50));
    release();
    await next;
    await expect(publishing).rejects.toMatchObject({ code: "NOT_FOUND" });
    await expect.poll(() => readdir(join(spool, "m"))).toEqual([".publication.json", ".publication.lock"]);
  });

  test("is heard of by all who wait for it, when it fails, and made anew for whoever asks next", async () => {
    const server = await serving({ limits: { maxPeerTransfers: 64 } });
    let fail = true;
    let opened = 0;
    const source = () => {
      opened++;
      const infos = [{ name: "a", dtype: "F32" as const, shape: [ELEMENTS] }];
      const failing = fail;
      return fromTensors(
        infos,
        (async function* () {
          await new Promise((resolve) => setTimeout(resolve, 100));
          if (failing) throw new Error("the disk is on fire");
          yield { name: "a", ...tensor(3) };
        })(),
      );
    };
    await server.publish("m", source, { spool });
    const all = Array.from({ length: 32 }, () => lastValue(server.urlOf("m")));
    const ends = await Promise.allSettled(all);
    expect(ends.map(({ status }) => status)).toEqual(new Array(32).fill("rejected"));
    expect(opened).toBeLessThan(32);
    fail = false;
    expect(await lastValue(server.urlOf("m"))).toBe(3);
    await expect.poll(() => server.published("m").readers).toBe(0);
  });

  test("is not made any more when it was unpublished before somebody asked, nor published by a call that came before", async () => {
    const server = await serving();
    const publishing = server.publish("m", { a: tensor(1) }, { spool });
    server.unpublish("m");
    await publishing.catch(() => {});
    await server.publish("n", { a: tensor(1) }, { spool });
    expect(server.unpublish("n")).toBe(true);
    await expect(lastValue(server.urlOf("n"))).rejects.toMatchObject({ code: "NOT_FOUND" });
    expect(server.names).not.toContain("n");
  });
});

describe("tensors that were changed in place", () => {
  test("are another version when they are published again, and never an earlier one", async () => {
    const server = await serving();
    const own = { a: tensor(1) };
    await server.publish("m", own, { spool, codecs: ["none", "float16"] });
    expect(await lastValue(server.urlOf("m", { codec: "none" }))).toBe(1);
    own.a.data.fill(2);
    expect(await server.publish("m", own, { spool, codecs: ["none", "float16"] })).toMatchObject({
      version: 2,
    });
    expect(await lastValue(server.urlOf("m"))).toBe(2);
    expect(await lastValue(server.urlOf("m", { version: 1, codec: "none" }))).toBe(1);
    await expect(lastValue(server.urlOf("m", { version: 1, codec: "float16" }))).rejects.toThrow(
      /never encoded/,
    );
    expect(await lastValue(server.urlOf("m", { version: 2, codec: "float16" }))).toBe(2);
  });
});

describe("a model whose publication has failed", () => {
  test("is not published", async () => {
    const server = await serving();
    await expect(server.publish("m", at("none.safetensors"), { spool })).rejects.toThrow();
    expect(server.names).toEqual([]);
    expect(() => server.published("m")).toThrow(/not published/);
    await expect(lastValue(server.urlOf("m"))).rejects.toMatchObject({ code: "NOT_FOUND" });
  });
});

test("a model that is published as it was is not written down again", async () => {
  const server = await serving();
  const path = at("m.safetensors");
  await makeModel(path, [{ name: "a", dtype: "F32", shape: [ELEMENTS] }]);
  const options = { spool, codec: "float16" };
  await server.publish("m", path, options);
  const { mtimeNs, ino } = await stat(join(spool, "m", ".publication.json"), { bigint: true });
  expect(await server.publish("m", path, options)).toMatchObject({ version: 1 });
  const after = await stat(join(spool, "m", ".publication.json"), { bigint: true });
  expect([after.mtimeNs, after.ino]).toEqual([mtimeNs, ino]);
});

describe("a server that is closed", () => {
  test("publishes and collects nothing any more, and leaves no lock", async () => {
    const server = await serving({ uploads: at("") });
    const collecting = server.collect("r", { expect: 1 });
    const closing = server.close();
    const late = [
      server.publish("m", { a: tensor(1) }, { spool }),
      collecting.then((round) => round.done),
      server.collect("s", { expect: 1 }).then((round) => round.done),
    ];
    for (const each of late) each.catch(() => {});
    await closing;
    await expect(server.publish("n", { a: tensor(1) }, { spool })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
    for (const each of late) await expect(each).rejects.toThrow(/closed/);
    const left = await readdir(at(""), { recursive: true });
    expect(left.filter((name) => name.endsWith(".lock"))).toEqual([]);
  });
});

describe("a round's receipt that was lost", () => {
  test.each(["xxh64", "sha256"] as const)("is given again, with %s", async (integrity) => {
    const server = await serving({ uploads: at("") });
    const round = await server.collect("r", { expect: 2 });
    const send = (value: number) =>
      streamModel({ a: tensor(value) }, server.urlOf("r/ada"), { chunkBytes: 32768, integrity });
    const first = await send(1);
    expect(await send(1)).toMatchObject({ digest: first.digest, resumedBytes: ELEMENTS * 4 });
    await expect(send(2)).rejects.toMatchObject({ code: "PEER_FAILED" });
    expect(round.status().arrived).toBe(1);
  });
});
