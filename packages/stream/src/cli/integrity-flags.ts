import type { Integrity } from "@tensorwire/core";
import { type Command, Option } from "commander";
import { checkExpectedDigest } from "../session/expected-digest.js";

/** What the options of a model's hashes parse to. */
export interface IntegrityFlags {
  readonly integrity?: Integrity;
  readonly digest?: string;
}

export const integrityOption = (description: string): Option =>
  new Option("--integrity <hash>", `sha256: ${description} (default: xxh64)`).choices(["xxh64", "sha256"]);

/** Options of commands that take a model from somewhere. */
export function addIntegrityFlags(command: Command): Command {
  return command
    .addOption(integrityOption("refuse a model that is not hashed with SHA-256"))
    .addOption(
      new Option("--digest <digest>", "what the model's must be: 16 digits, or sha256: and 64").argParser(
        parseDigest,
      ),
    );
}

function parseDigest(text: string): string {
  const digest = text.toLowerCase();
  checkExpectedDigest(digest);
  return digest;
}
