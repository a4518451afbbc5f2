import { rm } from "node:fs/promises";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { duplexChannel, MemoryBudget, receiveModel, streamModel } from "@tensorwire/stream";
import { writeNoiseModel } from "../../model/noise-model.js";
import { CODECS, type Order, type ServerTask, say } from "./job.js";

const task = JSON.parse(process.argv[2]!) as ServerTask;
const budget = new MemoryBudget(task.budgetBytes);
const source = join(task.scratch, "source.safetensors");
if (task.role === "send") {
  await writeNoiseModel(source, { bytes: task.modelBytes, largestBytes: task.modelBytes });
}
let mostReservedBytes = 0;
const watch = setInterval(() => {
  mostReservedBytes = Math.max(mostReservedBytes, budget.reservedBytes);
}, 5);
let begun = 0;
let left = 0;
let errors: string[] = [];

async function transfer(socket: Socket, index: number): Promise<void> {
  const { windowBytes, chunkBytes, role } = task;
  const channel = duplexChannel(socket);
  if (role === "send") {
    const codec = CODECS[index % CODECS.length]!;
    await streamModel(source, channel, { budget, windowBytes, chunkBytes, codec });
    return;
  }
  const to = join(task.scratch, `${index}.safetensors`);
  const { sourceBytes } = await receiveModel(channel, { budget, windowBytes, to }).done;
  if (sourceBytes !== task.modelBytes) throw new Error(`${sourceBytes} bytes came`);
  await rm(to);
}

const server = createServer((socket) => {
  transfer(socket, begun++)
    .catch((error) => errors.push(String(error)))
    .then(() => {
      if (--left > 0) return;
      say({ kind: "idle", errors, reservedBytes: budget.reservedBytes, mostReservedBytes });
      errors = [];
    });
});

process.on("message", (order: Order) => {
  if (order.kind === "begin") left += order.transfers;
});
process.on("disconnect", () => process.exit());
process.on("exit", () => clearInterval(watch));
server.listen(0, "127.0.0.1", () => {
  const { port } = server.address() as AddressInfo;
  say({ kind: "ready", url: `tcp://127.0.0.1:${port}` });
});
