import type { Command } from "commander";
import { RETRY_DEFAULTS } from "../session/retry.js";
import { countOption } from "./counts.js";
import { durationOption } from "./durations.js";
import { sizeOption } from "./sizes.js";
import { TOKEN_VARIABLE } from "./token.js";

/** What the options of having a peer parse to, beside those of the transfer. */
export interface PeerFlags {
  readonly listen?: string;
  readonly retry?: number;
  readonly wait?: number;
  readonly insecure?: boolean;
  readonly tlsCa?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly tlsServername?: string;
  readonly tokenFile?: string;
  readonly tokens?: string;
}

/** Options of commands that have a peer, which they dial or wait for. */
export function addPeerFlags(command: Command): Command {
  return addListeningFlags(command)
    .option(
      "--token-file <file>",
      `a file with the token to show to the peer that is dialled (default: $${TOKEN_VARIABLE}); never in clear text beyond loopback`,
    )
    .option("--tls-servername <name>", "the name that the peer's certificate must have (default: the host)");
}

/** Options of commands that are over with one transfer. */
export function addRetryFlag(command: Command): Command {
  return command.addOption(
    countOption(
      "--retry",
      `after an interruption, connect again, or with --listen wait for the next peer, and go on: at most n times in a row that bring nothing (default ${RETRY_DEFAULTS.attempts}, 0: never)`,
    ),
  );
}

/** The option of commands that dial once, and may be started before the peer. */
export function addWaitFlag(command: Command): Command {
  return command.addOption(
    durationOption(
      "--wait",
      "dial again for so long where nobody listens yet, so that both ends can be started at once (default 0: dial once)",
    ),
  );
}

/** Options of commands that can wait for peers. */
export function addListeningFlags(command: Command): Command {
  return command
    .option(
      "--listen <where>",
      "where to wait for peers: host:port, or a ws://, wss://, http://, https://, tcp://, tls:// or unix:/ URL; port 0 takes a free one",
    )
    .addOption(sizeOption("--max-bytes-per-second", "leave room on the line for others (default: no bound)"))
    .option("--tokens <file>", "JSON: who may come in, by the tokens that they show, and what they may do")
    .addOption(
      durationOption(
        "--idle-timeout",
        "a peer that is silent for so long, without a heartbeat, is gone (default 2m)",
      ),
    )
    .addOption(
      durationOption(
        "--stall-timeout",
        "give a peer up that lives, but moves nothing for so long (default: never; serve: 10m)",
      ),
    )
    .option(
      "--insecure",
      "listen beyond loopback without credentials, or take them in clear text: any peer that reaches the port is taken",
    )
    .option(
      "--tls-ca <file>",
      "PEM: who vouches for the peer's certificate; with --listen, peers must have one of it",
    )
    .option("--tls-cert <file>", "PEM: this end's certificate; with --listen, makes host:port a wss: URL")
    .option("--tls-key <file>", "PEM: the key of --tls-cert");
}
