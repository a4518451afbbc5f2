import { createHash, timingSafeEqual } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { quote, TensorwireError } from "@tensorwire/core";
import * as v from "valibot";
import { checkToken } from "./credential.js";
import type { Authorize, Principal } from "./principal.js";

const Rights = v.optional(v.union([v.boolean(), v.array(v.pipe(v.string(), v.minLength(1)))]));

const TokensSchema = v.record(
  v.pipe(v.string(), v.minLength(1), v.maxLength(200)),
  v.strictObject({
    token: v.optional(v.string()),
    sha256: v.optional(v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/i, "64 hexadecimal digits"))),
    publish: Rights,
    fetch: Rights,
    free: Rights,
    watch: v.optional(v.boolean()),
  }),
);

/**
 * The token of a principal, or the SHA-256 of it, so that whoever reads the list has no token; and what the principal may do.
 */
export interface TokenGrant extends Pick<Principal, "publish" | "fetch" | "free" | "watch"> {
  /** In clear text; or else `sha256`. */
  readonly token?: string | undefined;
  /** SHA-256 of the token, 64 hexadecimal digits. */
  readonly sha256?: string | undefined;
}

interface Entry {
  readonly digest: Buffer;
  readonly principal: Principal;
}

/**
 * Knows principals by bearer tokens: for `authorize`. The time that a token takes says nothing of those that are known: digests
 * are compared, all of them, and in constant time.
 * @param tokens By principal's name, or the path of a JSON file with the same. A file is read again when it changes; while it
 * cannot be used, nobody gets in.
 * @throws TensorwireError `INVALID_ARGUMENT`, in which no token stands.
 * @example
 * const authorize = await bearerTokens({ "site-1": { token, publish: ["site-1/*"], fetch: true } });
 * const server = await createModelServer({ port: 9000, authorize, uploads: "rounds" });
 * await streamModel("update.safetensors", server.urlOf("site-1/update"), { dial: { token } });
 */
export async function bearerTokens(
  tokens: string | Readonly<Record<string, TokenGrant>> | ReadonlyMap<string, TokenGrant>,
): Promise<Authorize> {
  if (typeof tokens === "string") return new TokenFile(tokens).open();
  const entries = parsed(tokens instanceof Map ? Object.fromEntries(tokens) : tokens, "the tokens");
  return (credential) => match(entries, credential);
}

class TokenFile {
  #entries: readonly Entry[] = [];
  #version = "";

  constructor(private readonly path: string) {}

  async open(): Promise<Authorize> {
    await this.#read();
    return async (credential) => {
      await this.#read();
      return match(this.#entries, credential);
    };
  }

  async #read(): Promise<void> {
    const where = `the tokens in ${quote(this.path)}`;
    try {
      const { ino, size, mtimeNs, ctimeNs } = await stat(this.path, { bigint: true });
      const version = [ino, size, mtimeNs, ctimeNs].join();
      if (version === this.#version) return;
      const text = await readFile(this.path, "utf8");
      this.#entries = parsed(json(text, where), where);
      this.#version = version;
    } catch (cause) {
      if (cause instanceof TensorwireError) throw cause;
      throw invalid(`${where} cannot be read: ${(cause as Error).message}`);
    }
  }
}

function json(text: string, where: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Not its cause: that repeats a part of the text.
    throw invalid(`${where} are no JSON`);
  }
}

function parsed(tokens: unknown, where: string): Entry[] {
  if (Array.isArray(tokens))
    throw invalid(`${where} are a list: an object with a member for each principal is expected`);
  const result = v.safeParse(TokensSchema, tokens, { abortEarly: true });
  if (!result.success) {
    const [issue] = result.issues;
    const place = v.getDotPath(issue) ?? "the whole";
    throw invalid(
      `${where}: ${quote(place)} is not what it should be: ${issue.expected ?? "another form"} is expected`,
    );
  }
  const entries = Object.entries(result.output).map(([name, grant]) => entry(name, grant, where));
  const distinct = new Set(entries.map(({ digest }) => digest.toString("hex")));
  if (distinct.size < entries.length) throw invalid(`${where}: two principals have the same token`);
  return entries;
}

function entry(name: string, { token, sha256, ...rights }: TokenGrant, where: string): Entry {
  if ((token === undefined) === (sha256 === undefined)) {
    throw invalid(`${where}: ${quote(name)} takes a token, or the sha256 of one`);
  }
  const digest = sha256 === undefined ? digestOf(checkToken(token!)) : Buffer.from(sha256, "hex");
  return { digest, principal: { name, ...rights } };
}

function match(entries: readonly Entry[], credential: string | undefined): Principal | undefined {
  if (credential === undefined) return undefined;
  const shown = digestOf(credential);
  let found: Principal | undefined;
  // All of them, found or not.
  for (const { digest, principal } of entries) if (timingSafeEqual(digest, shown)) found = principal;
  return found;
}

const digestOf = (token: string): Buffer => createHash("sha256").update(token).digest();

const invalid = (message: string): TensorwireError => new TensorwireError("INVALID_ARGUMENT", message);
