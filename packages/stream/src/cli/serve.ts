import { TensorwireError } from "@tensorwire/core";
import type { Command } from "commander";
import { createModelServer } from "../server/model-server.js";
import { ServedFolder } from "../server/served-folder.js";
import { Announcer } from "./announcer.js";
import { listeningOptions } from "./endpoint.js";
import { addCodecFlags, addSeedFlag, streamOptions } from "./codec-flags.js";
import type { Flags } from "./flags.js";
import { addListeningFlags } from "./peer-flags.js";
import { addTransferFlags } from "./transfer-flags.js";
import type { Invocation } from "./invocation.js";
import { tellAnswer, tellRefusal, tellServed } from "./served-lines.js";

export interface ServeFlags extends Flags {
  readonly uploads?: string;
  readonly metrics?: boolean | string;
  readonly dashboard?: boolean | string;
  readonly spool?: string;
}

const ANYWHERE = "127.0.0.1:0";

export function declareServe(program: Command, invocation: Invocation): void {
  const command = program
    .command("serve")
    .summary("serve the models of a folder, and take others")
    .description(
      "Publishes the models of a folder, and of those below it, by their paths: *.safetensors, *.safetensors.index.json, *.twire. " +
        "Speaks WebSocket and HTTP on one port. The first SIGINT or SIGTERM lets transfers end, the second ends them.",
    )
    .argument("<folder>", "where the models are; new files are found when somebody asks for them")
    .option("--uploads <folder>", "take models that peers send, into this folder (default: none are taken)")
    .option("--spool <folder>", "encode each model once, into artifacts in this folder, and serve those")
    .option("--metrics [path]", "answer Prometheus, at /metrics or another path, for whoever may come in")
    .option(
      "--dashboard [path]",
      "show transfers, rates and memory in a browser, at /dashboard or another path, to whoever may come in and watch",
    )
    .action((folder: string, flags: ServeFlags) => serve(folder, flags, invocation));
  addTransferFlags(addSeedFlag(addCodecFlags(addListeningFlags(command))));
}

async function serve(folder: string, flags: ServeFlags, invocation: Invocation): Promise<void> {
  const { output, interrupt } = invocation;
  const options = await streamOptions(flags);
  const { codec, policy, minElements, compress, nonFinite, seed, chunkBytes, integrity } = options;
  const encoding = { codec, policy, minElements, compress, nonFinite, seed, chunkBytes, integrity };
  const models = await ServedFolder.open(folder, encoding, flags.spool);
  const { windowBytes, budget, maxBytesPerSecond, limits: modelLimits, stallTimeoutMs } = options;
  const server = await createModelServer({
    ...(await listeningOptions(flags, flags.listen ?? ANYWHERE)),
    ...{ windowBytes, budget, maxBytesPerSecond, modelLimits, stallTimeoutMs },
    uploads: flags.uploads,
    metrics: flags.metrics,
    dashboard: flags.dashboard,
    find: (name) => models.find(name),
  });
  const announcer = new Announcer(output, flags.quiet);
  server.on("refused", (refusal) => tellRefusal(refusal, announcer));
  server.on("answer", (answer) => tellAnswer(answer, announcer));
  server.on("transfer", (transfer) => tellServed(transfer, announcer));
  output.note(`tensorwire: listening on ${server.url}`);
  if (server.dashboardUrl) output.note(`tensorwire: dashboard at ${server.dashboardUrl}`);
  const force = interrupt.stage();
  await aborted(interrupt.signal);
  if (server.transfers > 0) output.note("tensorwire: waiting for transfers to end; once more to end them");
  await server.close({ signal: force });
  announcer.end();
  if (force.aborted) throw new TensorwireError("ABORTED", "transfers were ended before they were complete");
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
