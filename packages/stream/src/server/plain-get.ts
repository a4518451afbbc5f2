import type { IncomingMessage, ServerResponse } from "node:http";
import { defaultCodecs, PROTOCOL_VERSION } from "@tensorwire/core";
import { duplexChannel } from "../channel/duplex.js";
import { peerOf } from "../channel/request-peer.js";
import type { Gate, Visitor } from "../door/gate.js";
import type { Exchange } from "./ranged-answer.js";
import { answerRefusal } from "./refusal-answer.js";

/** Whoever asks so says no HELLO: it is taken for what reads artifacts. */
const HELLO: Visitor["hello"] = {
  versions: [PROTOCOL_VERSION],
  software: "a plain GET",
  role: "receive",
  codecs: [...defaultCodecs.names()],
  limits: { maxChunkBytes: Number.MAX_SAFE_INTEGER, maxManifestBytes: Number.MAX_SAFE_INTEGER },
};

/** Somebody who asks by HTTP alone. */
export interface PlainVisitor extends Visitor {
  readonly exchange: Exchange;
}

export function isPlain(visitor: Visitor): visitor is PlainVisitor {
  return "exchange" in visitor;
}

/**
 * Lets in whoever asks for a model by a plain GET, and so needs no more than a web client: the body of the answer is a channel
 * without a way back, and what it carries is an artifact. Undefined where it was not let in.
 */
export async function plainVisitor(
  gate: Gate,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<PlainVisitor | undefined> {
  const { credential: _, ...peer } = peerOf(request);
  const gone = new AbortController();
  response.once("close", () => gone.abort());
  const refuse = async (error: Error): Promise<void> => answerRefusal(response, error);
  try {
    const principal = await gate.identify(peerOf(request), gone.signal);
    const channel = duplexChannel({ writable: response }, "http", peer);
    // What goes first takes the head with it: until then there can be another status.
    response.setHeader("content-type", "application/octet-stream");
    return { channel, peer, hello: HELLO, principal, refuse, exchange: { request, response } };
  } catch (error) {
    await refuse(error as Error);
    return undefined;
  }
}
