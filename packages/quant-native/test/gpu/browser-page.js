// What a page does with the codecs: a tensor that lies in a GPUBuffer is encoded there, and decoded into another one. Both
// are compared with the portable codec, and what came of it is posted to the server.
import { defaultCodecs, PortableBackend } from "@tensorwire/core";
import { GPU_CODECS, gpuCodecs, openGpuDevice } from "@tensorwire/quant-native/gpu";

const ELEMENTS = 70_001;
const USAGE = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;

async function downloaded(device, buffer) {
  const readback = device.createBuffer({
    size: buffer.size,
    usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
  });
  const encoder = device.createCommandEncoder();
  encoder.copyBufferToBuffer(buffer, 0, readback, 0, buffer.size);
  device.queue.submit([encoder.finish()]);
  await readback.mapAsync(GPUMapMode.READ);
  return new Uint8Array(readback.getMappedRange()).slice();
}

const same = (a, b) => a.length === b.length && a.every((byte, i) => byte === b[i]);

async function trial() {
  const { device, close } = await openGpuDevice();
  const notices = [];
  const backend = await gpuCodecs(device, { notice: (text) => notices.push(text), selfTest: "first-use" });
  const portable = new PortableBackend();
  const values = Float32Array.from(
    { length: ELEMENTS },
    (_, i) => Math.sin(i * 12.9898) * 0.02 * (1 + (i % 7)),
  );
  const bytes = new Uint8Array(values.buffer);
  const tensor = device.createBuffer({ size: bytes.length, usage: USAGE });
  device.queue.writeBuffer(tensor, 0, bytes);
  const back = device.createBuffer({ size: bytes.length, usage: USAGE });
  const differing = [];
  for (const name of GPU_CODECS) {
    const codec = defaultCodecs.resolve(name);
    const job = { codec, dtype: "F32", elements: ELEMENTS };
    const room = () => new Uint8Array(defaultCodecs.get(name).payloadBytes(codec, "F32", ELEMENTS));
    const [target, expected] = [room(), room()];
    const source = { buffer: tensor, byteOffset: 0, byteLength: bytes.length };
    const made = await backend.encode({ ...job, source, target });
    const reference = await portable.encode({ ...job, source: bytes, target: expected });
    const decoding = { ...job, payload: target, hash: made.hash, output: "F32" };
    await backend.decode({ ...decoding, target: { ...source, buffer: back } });
    const decoded = new Uint8Array(bytes.length);
    await portable.decode({ ...decoding, target: decoded });
    const alike =
      made.hash === reference.hash && same(target, expected) && same(await downloaded(device, back), decoded);
    if (!alike) differing.push(name);
  }
  const { deviceBytes, hostBytes, mappedBytes } = backend.traffic;
  const result = {
    backend: backend.name,
    codecs: GPU_CODECS.length,
    differing,
    notices,
    deviceBytes,
    hostBytes,
    mappedBytes,
  };
  close();
  return result;
}

const result = await trial().catch((error) => ({ error: String(error?.stack ?? error) }));
await fetch("/result", { method: "POST", body: JSON.stringify(result) });
