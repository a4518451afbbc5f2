import type { Channel } from "@tensorwire/core";
import {
  dialHttp,
  dialTcp,
  dialTls,
  dialUnix,
  dialWebSocket,
  type Listener,
  listen,
  receiveModel,
  streamModel,
  TensorwireError,
  type TransferSummary,
} from "@tensorwire/stream";
import { dialOptions, listenOptions } from "../arrangement.js";
import type { EndJob, EndReport } from "./job.js";
import { measuredChannel } from "./measured-channel.js";

// One end of a transfer as a process, which may be killed at any moment. It tries once; what it is told of retrying is in
// its options.

const job: EndJob = JSON.parse(process.argv[2]!);
const { role, file, channel, dial, path, certificate, options, ledger } = job;
const say = (report: EndReport): void => void process.send?.(report);

async function run(): Promise<TransferSummary> {
  const listener = dial === undefined ? await listen(listenOptions(channel, path, certificate)) : undefined;
  if (listener) say({ is: "listening", url: listener.url });
  try {
    const measured = ledger === undefined ? undefined : measuredChannel(await openChannel(listener), ledger);
    const endpoint = measured ?? listener ?? dial!;
    const own = dial === undefined ? {} : dialOptions(channel, certificate);
    const all = { ...options, ...own };
    const transfer =
      role === "sender"
        ? streamModel(file, endpoint, all)
        : receiveModel(endpoint, { ...all, to: file }).done;
    try {
      const summary = await transfer;
      await measured?.close();
      return summary;
    } catch (error) {
      await measured?.close(error as Error);
      throw error;
    }
  } finally {
    await listener?.close();
  }
}

/** A channel of the kind that it is to be, before anything is sent on it. */
function openChannel(listener: Listener | undefined): Promise<Channel> {
  if (listener) {
    return new Promise((resolve) => {
      const first = new AbortController();
      const take = (channel: Channel): void => {
        first.abort();
        resolve(channel);
      };
      void listener.each(take, first.signal);
    });
  }
  const url = dial!;
  const { dial: settings } = dialOptions(channel, certificate);
  switch (channel) {
    case "tcp":
      return dialTcp(url);
    case "unix":
      return dialUnix(url);
    case "tls":
      return dialTls(url, settings?.tls);
    case "http":
    case "https":
      return dialHttp(url, settings);
    default:
      return dialWebSocket(url, settings);
  }
}

process.on("disconnect", () => process.exit());
try {
  say({ is: "done", summary: await run() });
} catch (error) {
  const ours = error instanceof TensorwireError;
  const message = (ours ? error.message : (error as Error)?.stack) ?? String(error);
  say({ is: "failed", code: ours ? error.code : "not ours", message });
}
// What is still open then is nobody's.
setImmediate(() => process.disconnect?.());
