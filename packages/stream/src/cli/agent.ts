import { DEFAULT_WINDOW_BYTES } from "@tensorwire/core";
import type { Command } from "commander";
import { createAgent } from "../agent/agent.js";
import { boundProcessBudgets } from "../budget/process-budget.js";
import { readToken } from "./token.js";
import { tellOfAgent } from "./agent-lines.js";
import { Announcer } from "./announcer.js";
import { addAgentFlags, agentOptions, type AgentFlags } from "./agent-flags.js";
import { addCodecFlags, streamOptions } from "./codec-flags.js";
import { listeningOptions, tlsOptions } from "./endpoint.js";
import type { Invocation } from "./invocation.js";
import { addPeerFlags } from "./peer-flags.js";
import { addTransferFlags } from "./transfer-flags.js";

/** Memory of all transfers of one direction, where nobody says otherwise. */
export const AGENT_MEMORY_BYTES = 128 * 1024 * 1024;

/** That much of it, at least, so that one transfer alone is not slowed: a sender has a quarter to itself. */
const WINDOWS = 4;

export function declareAgent(program: Command, invocation: Invocation): void {
  const command = program
    .command("agent")
    .summary("move models for programs of this machine")
    .description(
      "A daemon beside a trainer: programs hand it files to publish, and get those that they fetch, over HTTP and JSON on a Unix socket or on loopback. " +
        "What is under way when it is stopped, or killed, goes on when it is started again.",
    )
    .action((flags: AgentFlags) => agent(flags, invocation));
  addTransferFlags(addCodecFlags(addPeerFlags(addAgentFlags(command))), "128MiB, each way");
}

async function agent(flags: AgentFlags, { output, signal }: Invocation): Promise<void> {
  const { codec, policy, minElements, compress, nonFinite, integrity, chunkBytes, ...transfer } =
    await streamOptions(flags);
  const {
    windowBytes = DEFAULT_WINDOW_BYTES,
    budget,
    limits,
    maxBytesPerSecond,
    idleTimeoutMs,
    stallTimeoutMs,
  } = transfer;
  const dial = { tls: await tlsOptions(flags), token: await readToken(flags.tokenFile) };
  // A process of its own, beside a trainer that wants the machine's memory.
  if (budget === undefined) boundProcessBudgets(Math.max(AGENT_MEMORY_BYTES, WINDOWS * windowBytes));
  const announcer = new Announcer(output, flags.quiet);
  const running = await createAgent({
    onEvent: (event) => tellOfAgent(event, flags.home !== undefined, announcer),
    ...agentOptions(flags),
    listen: flags.listen === undefined ? undefined : await listeningOptions(flags, flags.listen),
    dial,
    encoding: { codec, policy, minElements, compress, nonFinite, integrity, chunkBytes },
    transfer: { windowBytes, budget, limits, maxBytesPerSecond, idleTimeoutMs, stallTimeoutMs },
  });
  if (running.url !== null) output.note(`tensorwire: listening on ${running.url}`);
  output.note(`tensorwire: agent on ${running.local}`);
  if (!signal.aborted)
    await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
  await running.close();
  announcer.end();
}
