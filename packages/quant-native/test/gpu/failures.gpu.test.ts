import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { type CodecSpec, defaultCodecs, type EncodeJob, PortableBackend, xxh64 } from "@tensorwire/core";
import { ordinary } from "@tensorwire/core/testing";
import { afterEach, expect, it } from "vitest";
import { type GpuBackend, gpuCodecs, type OpenGpuDevice, openGpuDevice } from "../../src/gpu/index.js";
import { type GpuDevice, MAP_READ, USAGE } from "../../src/gpu/web-gpu.js";
import { describeGpu } from "./test-device.js";

const ELEMENTS = 8192;
const opened: OpenGpuDevice[] = [];
afterEach(() => {
  for (const each of opened.splice(0)) each.close();
});

/** A device of its own, which a test may lose. */
async function ownDevice(): Promise<GpuDevice> {
  const own = await openGpuDevice();
  opened.push(own);
  return own.device;
}

function job(codec: CodecSpec, seed = 1): EncodeJob & { source: Uint8Array } {
  const room = defaultCodecs.get(codec.name).payloadBytes(codec, "F32", ELEMENTS);
  const source = ordinary("F32", ELEMENTS, seed);
  return { codec, dtype: "F32", elements: ELEMENTS, source, target: new Uint8Array(room) };
}

function reference({ codec, dtype, elements, source, target }: ReturnType<typeof job>): Uint8Array {
  const expected = new Uint8Array(target.length);
  defaultCodecs.get(codec.name).encode(codec, dtype, elements, source, expected);
  return expected;
}

function uploaded(
  device: GpuDevice,
  bytes: Uint8Array,
  usage = USAGE.STORAGE | USAGE.COPY_SRC | USAGE.COPY_DST,
) {
  const buffer = device.createBuffer({ size: bytes.length, usage: usage | USAGE.COPY_DST });
  device.queue.writeBuffer(buffer, 0, new Uint8Array(bytes));
  return { buffer, byteOffset: 0, byteLength: bytes.length };
}

const float16 = { name: "float16" };

/** A device that behaves as `device`, but for some of its methods. */
function altered(device: GpuDevice, changes: Partial<GpuDevice>): GpuDevice {
  return new Proxy(device, {
    get(target, key) {
      const value: unknown = Reflect.get(changes, key) ?? Reflect.get(target, key);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

describeGpu("a device that fails", (device) => {
  const notices: string[] = [];
  afterEach(() => void notices.splice(0));
  const open = (on: GpuDevice, options = {}): Promise<GpuBackend> =>
    gpuCodecs(on, { only: ["float16"], notice: (text) => notices.push(text), ...options });

  it("and is lost, keeps nothing that is in the CPU's reach from being done", async () => {
    const own = await ownDevice();
    const backend = await open(own, { hostJobs: true });
    const source = uploaded(own, ordinary("F32", ELEMENTS, 1));
    // Some of them under way.
    const jobs = Array.from({ length: 6 }, (_, i) => job(float16, i));
    const made = jobs.map((each) => backend.encode(each));
    own.destroy();
    await Promise.all(made);
    const later = job(float16, 9);
    await backend.encode(later);
    for (const each of [...jobs, later]) expect(each.target).toEqual(reference(each));
    await expect(backend.encode({ ...job(float16), source })).rejects.toMatchObject({
      code: "DEVICE_LOST",
      message: expect.stringContaining("it was destroyed"),
    });
    expect(notices.length).toBeLessThanOrEqual(2);
  });

  it("and is lost before a codec was tried on it, leaves to the CPU what is in its reach", async () => {
    const own = await ownDevice();
    const backend = await open(own, { hostJobs: true, selfTest: "first-use" });
    own.destroy();
    const next = job(float16);
    const { hash } = await backend.encode(next);
    expect(next.target).toEqual(reference(next));
    const target = new Uint8Array(4 * ELEMENTS);
    const { codec, dtype, elements, target: payload } = next;
    await backend.decode({ codec, dtype, elements, payload, hash, output: "F32", target });
    expect(target.some((byte) => byte !== 0)).toBe(true);
    expect(notices).toEqual([expect.stringContaining("it was destroyed")]);
    // Another transfer with it is told too.
    await backend.again().encode(job(float16));
    expect(notices).toHaveLength(2);
  });

  it("and is lost, is what is wrong with a buffer that only kernels can read", async () => {
    const own = await ownDevice();
    const backend = await open(own);
    const next = job(float16);
    const usage = USAGE.STORAGE;
    const buffer = own.createBuffer({ size: 4 * ELEMENTS, usage });
    const given = { buffer, byteOffset: 0, byteLength: 4 * ELEMENTS };
    const running = backend.encode({ ...next, source: given });
    own.destroy();
    const { codec, dtype, elements, target: payload } = next;
    const decoded = () => backend.decode({ codec, dtype, elements, payload, output: "F32", target: given });
    const later = backend.encode({ ...next, source: given });
    for (const made of await Promise.allSettled([running, later, decoded()])) {
      expect(made).toMatchObject({ status: "rejected", reason: { code: "DEVICE_LOST" } });
    }
  });

  it("and is lost while a chunk is on its way there, does not say that it arrived", async () => {
    // Without the codec, what the host decodes is written there.
    for (const only of [["float16"], []]) {
      for (const turns of [1, 8, 64]) {
        const own = await ownDevice();
        const backend = await open(own, { only });
        const target = uploaded(own, new Uint8Array(4 * ELEMENTS));
        const payload = reference(job(float16));
        const made = backend.decode({
          ...{ codec: float16, dtype: "F32", elements: ELEMENTS, payload, output: "F32", target },
        });
        let arrived = false;
        const told = Promise.resolve(made).then(
          () => (arrived = true),
          (error: unknown) => error,
        );
        for (let i = 0; i < turns; i++) await Promise.resolve();
        expect(arrived).toBe(false);
        own.destroy();
        expect(await told).toMatchObject({ code: "DEVICE_LOST" });
      }
    }
  });

  it("because a buffer is destroyed, says so, and does the next job", async () => {
    const backend = await open(device);
    const gone = uploaded(device, ordinary("F32", ELEMENTS, 1));
    gone.buffer.destroy();
    await expect(backend.encode({ ...job(float16), source: gone })).rejects.toMatchObject({
      code: "DEVICE_FAILED",
      message: expect.stringContaining("destroyed"),
    });
    const next = job(float16);
    await backend.encode({ ...next, source: uploaded(device, next.source) });
    expect(next.target).toEqual(reference(next));
    backend.close();
  });

  it("to compile a shader, leaves the codec to the CPU", async () => {
    const broken = altered(device, {
      createShaderModule: (descriptor) => device.createShaderModule({ ...descriptor, code: "fn main( {" }),
    });
    const backend = await open(broken);
    expect(notices).toEqual([expect.stringContaining('the shader "encode float16 F32" was not accepted')]);
    const next = job(float16);
    await backend.encode({ ...next, source: uploaded(device, next.source) });
    expect(next.target).toEqual(reference(next));
    expect(backend.traffic).toMatchObject({ deviceBytes: 0, hostBytes: next.source.length });
    backend.close();
  });

  it("to give memory, leaves what is in reach to the CPU", async () => {
    // The device itself says what it says of a buffer that is too large, once the self-test is over.
    let scarce = false;
    const poor = altered(device, {
      createBuffer: (descriptor) =>
        device.createBuffer(scarce ? { ...descriptor, size: device.limits.maxBufferSize * 4 } : descriptor),
    });
    const backend = await open(poor, { hostJobs: true });
    scarce = true;
    const next = job({ name: "float16" });
    const { hash } = await backend.encode({ ...next, elements: ELEMENTS });
    expect(hash).toBe(xxh64(reference(next)));
    expect(notices).toEqual([
      expect.stringMatching(/^the device: encoding a chunk: .*chunks are encoded by the CPU/s),
    ]);
    backend.close();
  });

  it("to have room for a chunk within its limits, leaves that to the CPU", async () => {
    const limits = { ...pick(device), maxStorageBufferBindingSize: 4 * ELEMENTS - 4 };
    const backend = await open(altered(device, { limits }), { selfTest: "first-use" });
    const next = job(float16);
    await backend.encode({ ...next, source: uploaded(device, next.source) });
    expect(next.target).toEqual(reference(next));
    expect(backend.traffic.deviceBytes).toBe(0);
    backend.close();
  });

  it("is not there, says what is missing", async () => {
    const without = openGpuDevice({ gpu: { requestAdapter: async () => null } });
    await expect(without).rejects.toMatchObject({
      code: "DEVICE_UNAVAILABLE",
      message: expect.stringContaining("no adapter"),
    });
  });
});

function pick({ limits }: GpuDevice) {
  const { maxBufferSize, maxStorageBufferBindingSize } = limits;
  const { maxComputeWorkgroupsPerDimension, minStorageBufferOffsetAlignment } = limits;
  return {
    ...{ maxBufferSize, maxStorageBufferBindingSize },
    ...{ maxComputeWorkgroupsPerDimension, minStorageBufferOffsetAlignment },
  };
}

describeGpu("a device", () => {
  // What goes wrong here ends the process.
  const collected = async (): Promise<void> => {
    setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc") as () => void;
    for (let i = 0; i < 5; i++) {
      collect();
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  };

  it("stays open where nothing else of it is kept", async () => {
    const { device } = await openGpuDevice();
    await collected();
    const buffer = device.createBuffer({ size: 16, usage: USAGE.MAP_READ | USAGE.COPY_DST });
    device.queue.writeBuffer(buffer, 0, Uint8Array.of(1, 2, 3, 4));
    await buffer.mapAsync(MAP_READ);
    expect([...new Uint8Array(buffer.getMappedRange(0, 4))]).toEqual([1, 2, 3, 4]);
    device.destroy();
  });

  it("that is closed can still be asked: a backend may not know yet", async () => {
    const device = await (async () => {
      const { device, close } = await openGpuDevice();
      close();
      return device;
    })();
    await collected();
    device.pushErrorScope("validation");
    expect(await device.popErrorScope()).toBeNull();
  });
});

describeGpu("buffers of a device", (device) => {
  const open = (options = {}) =>
    gpuCodecs(device, { only: ["float16", "normfloat4"], notice: () => {}, ...options });

  it("are copied first, where kernels cannot have them", async () => {
    const backend = await open();
    const next = job(float16);
    await backend.encode({ ...next, source: uploaded(device, next.source, USAGE.COPY_SRC) });
    expect(next.target).toEqual(reference(next));
    backend.close();
  });

  it("are refused where they cannot be used", async () => {
    const backend = await open();
    const next = job(float16);
    const good = uploaded(device, next.source);
    const refused = async (source: object, words: string) =>
      expect(backend.encode({ ...next, source: { ...good, ...source } })).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
        message: expect.stringContaining(words),
      });
    await refused({ byteOffset: 2 }, "multiple of 4");
    await refused({ byteOffset: 4 }, "is to be used from 4 to");
    await refused({ byteLength: 16 }, "has 16 bytes for this chunk");
    await refused({ buffer: uploaded(device, next.source, 0).buffer }, "it needs STORAGE, or COPY_SRC");
    backend.close();
  });

  it("between host and device stay within their limit, whatever is asked for at once", async () => {
    const stagingBytes = 256 * 1024;
    const backend = await open({ stagingBytes });
    const jobs = Array.from({ length: 40 }, (_, i) => job({ name: "normfloat4", block: 64 }, i));
    const sources = jobs.map(({ source }) => uploaded(device, source));
    await Promise.all(jobs.map((each, i) => backend.encode({ ...each, source: sources[i]! })));
    for (const each of jobs) expect(each.target).toEqual(reference(each));
    expect(backend.traffic.stagingBytes).toBeLessThanOrEqual(stagingBytes);
    // Codes, scales and two counts: what is mapped is hardly more than what is sent.
    const { mappedBytes } = (await open()).traffic;
    const before = backend.traffic.mappedBytes;
    await backend.encode({ ...jobs[0]!, source: sources[0]! });
    const payload = jobs[0]!.target.length;
    expect(backend.traffic.mappedBytes - before).toBeLessThanOrEqual(1.1 * payload);
    expect(mappedBytes).toBeGreaterThan(0);
    backend.close();
  });

  it("wait for room, and leave the line when their signal aborts", async () => {
    const backend = await open({ stagingBytes: 1, host: new PortableBackend() });
    const abort = new AbortController();
    const first = job(float16);
    const second = job(float16, 2);
    const third = job(float16, 3);
    const source = ({ source }: typeof first) => uploaded(device, source);
    const running = backend.encode({ ...first, source: source(first) });
    const waiting = backend.encode({ ...second, source: source(second), signal: abort.signal });
    const last = backend.encode({ ...third, source: source(third) });
    abort.abort(new Error("enough"));
    await expect(waiting).rejects.toMatchObject({ code: "ABORTED" });
    await Promise.all([running, last]);
    expect([first.target, third.target]).toEqual([reference(first), reference(third)]);
    expect(second.target.every((byte) => byte === 0)).toBe(true);
    backend.close();
  });
});
