import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  fromTensors,
  memoryChannelPair,
  receiveModel,
  type StreamOptions,
  streamModel,
  type TensorMap,
} from "../src/index.js";
import { checksLoans } from "./loans-fixture.js";
import { at, folder, N, over, tensor, update } from "./residuals-fixture.js";

checksLoans();

describe("a transfer that fails leaves residuals as they were", () => {
  const options: StreamOptions = {
    codec: "normfloat4",
    residuals: "",
    chunkBytes: 32_768,
    windowBytes: 65_536,
  };
  let before: Buffer;
  beforeEach(async () => {
    (options as { residuals: string }).residuals = at("r");
    await over({ w: tensor("F32", update(0)) }, options);
    before = await readFile(at("r"));
  });
  afterEach(async () => {
    expect((await readFile(at("r"))).equals(before)).toBe(true);
    expect((await readdir(folder)).sort()).toEqual(["r"]);
  });

  const infos = [{ name: "w", dtype: "F32", shape: [N] }] as const;

  test("in the middle, at the receiver, leaves residuals as they were", async () => {
    const [out, back] = memoryChannelPair();
    const receiving = receiveModel(back, { windowBytes: 65_536 });
    const sending = streamModel({ w: tensor("F32", update(1)) }, out, options);
    for await (const _ of receiving.chunks()) break;
    await expect(sending).rejects.toMatchObject({ code: "PEER_FAILED" });
  });

  test("at the receipt, after everything was sent", async () => {
    const [out, back] = memoryChannelPair();
    const receiving = receiveModel(back, {
      to: {
        name: "a sink that cannot finish",
        parallel: true,
        open: async () => {},
        write: () => undefined,
        finish: async () => {
          throw new Error("no");
        },
        abort: async () => {},
      },
    });
    const sending = streamModel({ w: tensor("F32", update(1)) }, out, options);
    await expect(Promise.all([sending, receiving.done])).rejects.toThrow();
    await expect(sending).rejects.toMatchObject({ code: "PEER_FAILED" });
  });

  test("at the sender: its source, its signal", async () => {
    const [out, back] = memoryChannelPair();
    const receiving = receiveModel(back, { to: at("m.safetensors") });
    await expect(
      streamModel(fromTensors(infos, []), out, { ...options, retry: false }),
    ).rejects.toMatchObject({
      code: "SOURCE_MISMATCH",
    });
    await expect(receiving.done).rejects.toThrow();
    const signal = AbortSignal.abort(new Error("enough"));
    await expect(
      streamModel({ w: tensor("F32", update(1)) }, at("m.twire"), { ...options, signal }),
    ).rejects.toMatchObject({ code: "ABORTED" });
  });

  test("since the artifact cannot get its name", async () => {
    await mkdir(at("m.twire"));
    await expect(streamModel({ w: tensor("F32", update(1)) }, at("m.twire"), options)).rejects.toMatchObject({
      code: "TARGET_WRITE",
    });
    await rm(at("m.twire"), { recursive: true });
  });

  test.each<[string, StreamOptions, TensorMap]>([
    ["codec", { codec: "blockwise8" }, { w: tensor("F32", update(1)) }],
    ["parameter", { codec: { name: "normfloat4", block: 128 } }, { w: tensor("F32", update(1)) }],
    ["chunk size", { chunkBytes: 65_536, windowBytes: 1 << 20 }, { w: tensor("F32", update(1)) }],
    ["dtype", {}, { w: tensor("BF16", update(1)) }],
    ["tensor", {}, { w: tensor("F32", update(1)), v: tensor("F32", update(1)) }],
  ])("since another %s is another codec plan", async (_, other, model) => {
    await expect(streamModel(model, at("m.twire"), { ...options, ...other })).rejects.toMatchObject({
      code: "SOURCE_MISMATCH",
      message: expect.stringContaining("another codec plan"),
    });
  });
});
