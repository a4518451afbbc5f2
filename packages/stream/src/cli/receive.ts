import { stat } from "node:fs/promises";
import type { Command } from "commander";
import { receiveModel } from "../receive-model.js";
import { RETRY_DEFAULTS } from "../session/retry.js";
import { targetExists } from "../sink/destination.js";
import { openPeer } from "./endpoint.js";
import type { Flags } from "./flags.js";
import { addIntegrityFlags } from "./integrity-flags.js";
import { addRangeFlags, rangeOptions } from "./range-flags.js";
import { addPeerFlags, addRetryFlag, addWaitFlag } from "./peer-flags.js";
import { addTransferFlags } from "./transfer-flags.js";
import { addWriteFlags, receiveOptions } from "./write-flags.js";
import { type Invocation, runTransfer } from "./invocation.js";
import { addPartsFlags } from "./parts-flags.js";

export function declareReceive(program: Command, invocation: Invocation): void {
  const command = program
    .command("receive")
    .summary("receive a model from a peer")
    .description(
      "Receives a model from a peer: from a URL, from whoever connects (--listen), or from a pipe (-).",
    )
    .argument(
      "[url]",
      "ws://, wss://, http://, https://, tcp://, tls:// or unix:/ URL of the sender, or URL of an artifact; - reads stdin",
    )
    .requiredOption(
      "--out <path>",
      "where it goes: *.safetensors, *.twire to keep it encoded, any path for a raw file",
    )
    .action((url: string | undefined, flags: Flags) => receive(url, flags, invocation));
  addWaitFlag(addRetryFlag(addPeerFlags(command)));
  addTransferFlags(addIntegrityFlags(addPartsFlags(addWriteFlags(addRangeFlags(command)))));
}

async function receive(url: string | undefined, flags: Flags, invocation: Invocation): Promise<void> {
  const { output } = invocation;
  output.quiet = flags.quiet ?? false;
  const to = flags.out!;
  if (!flags.overwrite) await refuseExisting(to);
  const { endpoint, dial, oneWay, close } = await openPeer(url, "receive", flags, output);
  const words = {
    counter: "acknowledged",
    deed: `received ${to}`,
    place: "on the wire",
    confirmation: ({ confirmed }: { confirmed: boolean }) =>
      confirmed || oneWay
        ? "verified and durable"
        : "verified and durable, but the sender left before it could be told",
  } as const;
  try {
    await runTransfer(
      invocation,
      words,
      (watch) =>
        receiveModel(endpoint, { ...receiveOptions(flags), ...rangeOptions(flags), dial, to, ...watch }).done,
      url === "-" ? flags.retry : (flags.retry ?? RETRY_DEFAULTS.attempts),
    );
  } finally {
    await close();
  }
}

// The sink refuses too; this is before anybody waits for a peer.
async function refuseExisting(path: string): Promise<void> {
  const found = await stat(path).catch(() => undefined);
  if (found?.isFile()) throw targetExists(path);
}
