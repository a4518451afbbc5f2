// npm run bench:gpu: a tensor in a buffer of a GPU, encoded there, beside reading it back and encoding it on the CPU.
import { type Codec, type CodecSpec, defaultCodecs, TensorwireError } from "@tensorwire/core";
import { defaultBackend } from "@tensorwire/quant-native";
import {
  GPU_CODECS,
  type GpuBackend,
  type GpuDevice,
  gpuCodecs,
  openGpuDevice,
} from "@tensorwire/quant-native/gpu";
import { Command } from "commander";
import { median } from "../memory/bars.js";

const MIB = 2 ** 20;
const CHUNK_ELEMENTS = 2 ** 20;
const CHUNK_BYTES = 4 * CHUNK_ELEMENTS;
/** As a sender's lane has them. */
const AT_ONCE = 4;
/** `GPUBufferUsage.STORAGE | COPY_SRC | COPY_DST`. */
const USAGE = 0x80 | 0x4 | 0x8;

/** What a process ends with that finds no GPU (scripts/with-gpu.mjs). */
const NO_DEVICE = 10;

type Buffer = ReturnType<GpuDevice["createBuffer"]>;

interface Row {
  readonly codec: string;
  /** Of a chunk: from its submission to when the device is done, the copy to what is mapped included. */
  readonly kernelMs: number;
  readonly mapped: number;
  readonly gpuMs: number;
  readonly cpuMs: number;
}

/** The device, telling how long each submission took. */
function timed(device: GpuDevice, took: (ms: number) => void): GpuDevice {
  const queue = new Proxy(device.queue, {
    get(target, key) {
      const value: unknown = Reflect.get(target, key);
      if (key !== "submit") return typeof value === "function" ? value.bind(target) : value;
      return (commands: Parameters<typeof target.submit>[0]) => {
        const begun = performance.now();
        target.submit(commands);
        void target.onSubmittedWorkDone().then(() => took(performance.now() - begun));
      };
    },
  });
  return new Proxy(device, {
    get(target, key) {
      const value: unknown = key === "queue" ? queue : Reflect.get(target, key);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

function weights(device: GpuDevice, chunks: number): Buffer {
  const buffer = device.createBuffer({ size: chunks * CHUNK_BYTES, usage: USAGE });
  const part = new Float32Array(CHUNK_ELEMENTS).map((_, i) => Math.sin(i * 12.9898) * 0.02 * (1 + (i % 7)));
  for (let i = 0; i < chunks; i++)
    device.queue.writeBuffer(buffer, i * CHUNK_BYTES, new Uint8Array(part.buffer));
  return buffer;
}

/** Milliseconds in which all chunks are encoded, several at once. */
async function encodeAll(
  backend: GpuBackend,
  codec: CodecSpec,
  reference: Codec,
  buffer: Buffer,
): Promise<number> {
  const chunks = buffer.size / CHUNK_BYTES;
  const room = reference.payloadBytes(codec, "F32", CHUNK_ELEMENTS);
  const targets = Array.from({ length: AT_ONCE }, () => new Uint8Array(room));
  const begun = performance.now();
  await Promise.all(
    targets.map(async (target, lane) => {
      for (let i = lane; i < chunks; i += AT_ONCE) {
        const source = { buffer, byteOffset: i * CHUNK_BYTES, byteLength: CHUNK_BYTES };
        await backend.encode({ codec, dtype: "F32", elements: CHUNK_ELEMENTS, source, target });
      }
    }),
  );
  return performance.now() - begun;
}

async function measure(
  name: string,
  backend: GpuBackend,
  buffer: Buffer,
  runs: number,
  kernels: number[],
): Promise<Row> {
  const reference = defaultCodecs.get(name);
  const codec = reference.resolve({ name });
  const cpu = backend.again({ deviceJobs: false });
  await encodeAll(backend, codec, reference, buffer);
  await encodeAll(cpu, codec, reference, buffer);
  const times = { gpu: [] as number[], cpu: [] as number[] };
  kernels.length = 0;
  let mapped = 0;
  for (let run = 0; run < runs; run++) {
    const on = async (which: "gpu" | "cpu") => {
      const one = backend.again({ deviceJobs: which === "gpu" });
      times[which].push(await encodeAll(one, codec, reference, buffer));
      if (which === "gpu") mapped = one.traffic.mappedBytes;
    };
    // In alternating order: what one leaves behind, the other meets, and the other way round.
    for (const which of run % 2 ? (["cpu", "gpu"] as const) : (["gpu", "cpu"] as const)) await on(which);
  }
  // One at a time: of several at once each would wait for the others.
  const single = { buffer, byteOffset: 0, byteLength: CHUNK_BYTES };
  const target = new Uint8Array(reference.payloadBytes(codec, "F32", CHUNK_ELEMENTS));
  kernels.length = 0;
  for (let run = 0; run < runs; run++) {
    await backend.encode({ codec, dtype: "F32", elements: CHUNK_ELEMENTS, source: single, target });
  }
  return {
    codec: name,
    kernelMs: median(kernels),
    mapped: mapped / buffer.size,
    gpuMs: median(times.gpu),
    cpuMs: median(times.cpu),
  };
}

async function main({ mib, runs }: { mib: number; runs: number }): Promise<void> {
  const { device, close } = await openGpuDevice();
  const kernels: number[] = [];
  try {
    const host = defaultBackend();
    const backend = await gpuCodecs(
      timed(device, (ms) => kernels.push(ms)),
      { host },
    );
    const buffer = weights(device, Math.max(AT_ONCE, Math.floor((mib * MIB) / CHUNK_BYTES)));
    const { architecture = "", description = "" } = device.adapterInfo ?? {};
    const software = /swiftshader|llvmpipe/i.test(`${architecture} ${description}`);
    console.log(
      `${backend.name}${software ? ", a driver in software: the CPU does both columns" : ""}; the CPU's codecs are ${host.name}; ` +
        `F32, ${buffer.size / MIB} MiB in chunks of 4 MiB, ${AT_ONCE} at once, median of ${runs}\n`,
    );
    console.log(
      "| codec | kernel, a chunk | mapped, of the tensor | encoded there | read back, encoded by the CPU | ratio |",
    );
    console.log("| --- | ---: | ---: | ---: | ---: | ---: |");
    const speed = (ms: number) => `${(buffer.size / 1e6 / ms).toFixed(2)} GB/s`;
    for (const name of GPU_CODECS) {
      const { codec, kernelMs, mapped, gpuMs, cpuMs } = await measure(name, backend, buffer, runs, kernels);
      const cells = [
        codec,
        `${kernelMs.toFixed(2)} ms`,
        `${(100 * mapped).toFixed(1)} %`,
        speed(gpuMs),
        speed(cpuMs),
      ];
      console.log(`| ${cells.join(" | ")} | ${(cpuMs / gpuMs).toFixed(2)} |`);
    }
    backend.close();
  } finally {
    close();
  }
}

const command = new Command("bench:gpu")
  .option("--mib <number>", "size of the tensor", Number, 256)
  .option("--runs <number>", "runs of each", Number, 5)
  .parse();

try {
  await main(command.opts());
} catch (error) {
  if (!(error instanceof TensorwireError) || error.code !== "DEVICE_UNAVAILABLE") throw error;
  console.error(error.message);
  process.exitCode = NO_DEVICE;
}
