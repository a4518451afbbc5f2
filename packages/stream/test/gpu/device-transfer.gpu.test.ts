import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bytesOf, type DType, PortableBackend } from "@tensorwire/core";
import { gpuCodecs } from "@tensorwire/quant-native/gpu";
import { afterEach, beforeEach, expect, it } from "vitest";
import {
  fromTensors,
  memoryChannelPair,
  receiveModel,
  select,
  type StreamOptions,
  streamModel,
  type TensorMap,
  transferModel,
} from "../../src/index.js";
import { filled, floats } from "../transfer-fixture.js";
import { type Device, describeGpu, downloaded, uploaded } from "./gpu-fixture.js";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tensorwire-gpu-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const HOST = {
  weight: filled("F32", [40, 1031]),
  half: filled("F16", [3, 4097]),
  brain: filled("BF16", [129, 101]),
  double: filled("F64", [8193]),
  bias: filled("F32", [7]),
  ids: filled("I64", [129]),
  mask: filled("BOOL", [77]),
  empty: filled("F32", [0, 4]),
  last: filled("F16", [5001]),
};

/** The same model in buffers of the device, each tensor somewhere within its buffer. */
function onDevice(
  device: Device,
  model: Record<string, { dtype: DType; shape: number[]; data: Uint8Array }> = HOST,
) {
  return Object.fromEntries(
    Object.entries(model).map(([name, tensor], i) => [
      name,
      { ...tensor, data: uploaded(device, tensor.data, 4 * ((i * 37) % 150)) },
    ]),
  );
}

/** All tensors of an artifact, as a receiver on the CPU has them. */
async function unpacked(path: string): Promise<Map<string, Uint8Array>> {
  const found = new Map<string, Uint8Array>();
  for await (const { name, data } of receiveModel(path, { backend: "cpu" })) found.set(name, data.slice());
  return found;
}

describeGpu("tensors in buffers of a device", (device) => {
  const pack = (model: TensorMap, name: string, options: StreamOptions = {}) =>
    streamModel(model, join(folder, name), { chunkBytes: 32 * 1024, minElements: 16, ...options });

  it.each(["normfloat4", "blockwise8", "float16", "linear3", "adaquant", "lossless", "none"])(
    "are sent in %s as tensors in memory are",
    async (codec) => {
      const cpu = await pack(HOST, "cpu.twire", { codec });
      const gpu = await pack(onDevice(device), "gpu.twire", { codec, device });
      expect(gpu.digest).toBe(cpu.digest);
      expect(await unpacked(join(folder, "gpu.twire"))).toEqual(await unpacked(join(folder, "cpu.twire")));
    },
  );

  it("are sent to a peer, and arrive in buffers of the device", async () => {
    const [near, far] = memoryChannelPair();
    const sending = streamModel(onDevice(device), near, {
      codec: "normfloat4",
      device,
      chunkBytes: 32 * 1024,
    });
    const received = receiveModel(far, { to: "gpu", device, outputDtype: "F32" });
    const found = new Map<string, Uint8Array>();
    for await (const { name, data } of received) {
      found.set(name, await downloaded(device, data));
      data.buffer.destroy();
    }
    const [sent, got] = await Promise.all([sending, received.done]);
    expect(got.digest).toBe(sent.digest);
    await pack(HOST, "cpu.twire", { codec: "normfloat4", minElements: 4096 });
    const expected = new Map<string, Uint8Array>();
    const onHost = receiveModel(join(folder, "cpu.twire"), { backend: "cpu", outputDtype: "F32" });
    for await (const { name, data } of onHost) expected.set(name, data.slice());
    expect(found).toEqual(expected);
    // 41,240 and 12,291 and 13,029 and 5,001 elements; F64 and what is small are the CPU's.
    const gpu = Object.keys(sent.backends).find((name) => name.startsWith("gpu-"))!;
    expect(sent.backends[gpu]).toBe(4 * 41_240 + 2 * (12_291 + 13_029 + 5_001));
    expect(got.backends[gpu]).toBe(4 * (41_240 + 12_291 + 13_029 + 5_001 + 8193));
  });

  it("are read back, and sent exactly, where a codec cannot carry them", async () => {
    const values = floats(30_000, 3);
    values[20_000] = Number.NaN;
    const tensor = { dtype: "F32" as const, shape: [30_000], data: bytesOf(values) };
    const summary = await pack(onDevice(device, { w: tensor }), "nan.twire", { codec: "normfloat4", device });
    expect(summary.fallbackChunks).toBe(1);
    const { w } = Object.fromEntries(await unpacked(join(folder, "nan.twire")));
    expect(new Float32Array(w!.buffer)[20_000]).toBeNaN();
    const refused = pack(onDevice(device, { w: tensor }), "refused.twire", {
      ...{ codec: "normfloat4", device, nonFinite: "error" },
    });
    await expect(refused).rejects.toMatchObject({
      code: "VALUE_NOT_FINITE",
      message: expect.stringContaining("element 20000 is NaN"),
    });
  });

  it("are the caller's again, one by one, when the next is asked for", async () => {
    const infos = Object.entries(HOST).map(([name, { dtype, shape }]) => ({ name, dtype, shape }));
    async function* lent() {
      for (const [name, tensor] of Object.entries(HOST)) {
        const data = uploaded(device, tensor.data);
        yield { name, dtype: tensor.dtype, shape: tensor.shape, data };
        // A destroyed buffer would fail whatever is still to be encoded from it.
        data.buffer.destroy();
      }
    }
    const options = { codec: "blockwise8", device, chunkBytes: 32 * 1024, minElements: 16 };
    const gpu = await streamModel(fromTensors(infos, lent()), join(folder, "gpu.twire"), options);
    const cpu = await pack(HOST, "cpu.twire", { codec: "blockwise8" });
    expect(gpu.digest).toBe(cpu.digest);
  });

  it("leave error feedback what it is", async () => {
    const options = { codec: "float4", compress: "auto" as const };
    const on = (name: string) => ({ ...options, residuals: join(folder, name) });
    for (const round of [1, 2]) {
      const cpu = await pack(HOST, `cpu${round}.twire`, on("cpu"));
      const gpu = await pack(onDevice(device), `gpu${round}.twire`, { ...on("gpu"), device });
      expect(gpu.digest).toBe(cpu.digest);
    }
  });

  it("run where the caller says", async () => {
    const names = async (options: StreamOptions, model: TensorMap = onDevice(device)) => {
      const { backends } = await pack(model, "x.twire", { codec: "normfloat4", overwrite: true, ...options });
      return Object.keys(backends).map((name) => name.replace(/-.*/, ""));
    };
    expect(await names({ device, backend: "cpu" })).toEqual(["native"]);
    expect(await names({ device, backend: "gpu" }, HOST)).toEqual(["gpu", "native"]);
    expect(await names({ device }, HOST)).toEqual(["native"]);
    const own = await gpuCodecs(device, { only: ["normfloat4"], host: new PortableBackend() });
    expect(await names({ backend: own })).toEqual(["gpu", "portable"]);
    expect(own.traffic.deviceBytes).toBe(0);
    own.close();
  });

  it("do not arrive where the device has no room for them", async () => {
    await pack({ weight: HOST.weight }, "w.twire", { codec: "float16" });
    // The device itself says what it says of a buffer that is too large.
    const full = new Proxy(device, {
      get(target, key) {
        if (key === "createBuffer") {
          return (wanted: Parameters<Device["createBuffer"]>[0]) =>
            target.createBuffer(wanted.label ? wanted : { ...wanted, size: 4 * target.limits.maxBufferSize });
        }
        const value: unknown = Reflect.get(target, key);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
    const received = receiveModel(join(folder, "w.twire"), { to: "gpu", device: full });
    const taken = (async () => {
      for await (const _ of received);
    })();
    for (const end of await Promise.allSettled([taken, received.done])) {
      expect(end).toMatchObject({
        status: "rejected",
        reason: {
          code: "DEVICE_FAILED",
          tensor: "weight",
          message: expect.stringContaining("this device has no room for 164960 bytes"),
        },
      });
    }
  });

  it("are refused where nobody has the device, or they are not what they say", async () => {
    const model = onDevice(device);
    await expect(pack(model, "x.twire", { codec: "normfloat4" })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining("option device"),
    });
    const named = (data: object) => pack({ w: { ...HOST.weight, data } as never }, "x.twire", { device });
    await expect(named({ ...model.weight!.data, byteLength: 12 })).rejects.toThrow(
      "12 bytes of a GPUBuffer where",
    );
    await expect(named({ ...model.weight!.data, byteOffset: 2 })).rejects.toThrow("multiple of 4");
    await expect(named({ buffer: model.bias!.data.buffer })).rejects.toThrow("the tensor ends at 164960");
    await expect(pack(model, "x.twire", { backend: "gpu" })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
    await expect(pack(model, "x.twire", { backend: "tpu" as never })).rejects.toThrow("auto, cpu, gpu");
    const computed = transferModel(select(model, ["weight"]), join(folder, "y.twire"), {
      device,
    });
    await computed;
    await expect(receiveModel(join(folder, "y.twire"), { to: "gpu" }).done).rejects.toThrow(
      "there is no device",
    );
    await expect(transferModel(model, "gpu", { device })).rejects.toThrow("./gpu");
  });
});
