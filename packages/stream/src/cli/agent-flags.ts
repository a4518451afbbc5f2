import { quote, TensorwireError } from "@tensorwire/core";
import { type Command, Option } from "commander";
import type { AgentOptions } from "../agent/agent-options.js";
import type { LocalPlace } from "../agent/local-server.js";
import { durationOption } from "./durations.js";
import type { Flags } from "./flags.js";
import { sizeOption } from "./sizes.js";

/** What the options of an agent parse to, beside those of its peers and transfers. */
export interface AgentFlags extends Flags {
  readonly directory: string;
  readonly socket?: string;
  readonly local?: LocalPlace;
  readonly localTokenFile?: string;
  readonly exchange?: string;
  readonly reserve?: number;
  readonly allow?: string[];
  readonly keep?: number;
  readonly patience?: number;
  readonly home?: string;
}

export function addAgentFlags(command: Command): Command {
  return command
    .requiredOption("--directory <dir>", "the agent's own: its state, and what changes hands")
    .option(
      "--socket <path>",
      "a Unix socket for programs of this user (default: agent.sock in the directory)",
    )
    .addOption(
      new Option(
        "--local <host:port>",
        "loopback instead of a Unix socket, with a token; port 0 takes a free one",
      )
        .argParser(parseLocal)
        .conflicts("socket"),
    )
    .option(
      "--local-token-file <file>",
      "the token of programs, made where there is none (default with --local: token in the directory)",
    )
    .option("--exchange <dir>", "where model files change hands (default: exchange in the directory)")
    .addOption(sizeOption("--reserve", "space that stays free in the exchange directory (default 64M)"))
    .addOption(
      new Option(
        "--allow <dir>",
        "files in it may be published, sent and fetched to; may be given again",
      ).argParser((dir: string, dirs: string[] = []) => [...dirs, dir]),
    )
    .addOption(durationOption("--keep", "how long anything stays that nobody frees (default 24h)"))
    .addOption(
      durationOption("--patience", "how long a transfer goes on trying while nothing moves (default 60s)"),
    )
    .addOption(
      new Option(
        "--home <url>",
        "the agent that has the models of this one: what is published is uploaded there",
      ).conflicts("listen"),
    );
}

export function agentOptions(flags: AgentFlags): AgentOptions {
  const { directory, socket, local, localTokenFile, exchange, reserve, allow, keep, patience, home } = flags;
  return {
    ...{ directory, localTokenFile, exchange, allow, home },
    local: local ?? (socket === undefined ? undefined : { socket }),
    reserveBytes: reserve,
    keepMs: keep,
    patienceMs: patience,
  };
}

function parseLocal(text: string): LocalPlace {
  const match = /^(?:(\[[0-9a-f:.]+\]|[^:[\]]*):)?(\d{1,5})$/i.exec(text);
  const port = Number(match?.[2] ?? Number.NaN);
  if (match && port <= 65535) return { host: match[1] || "127.0.0.1", port };
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `--local takes host:port, such as 127.0.0.1:9001, not ${quote(text)}`,
  );
}
