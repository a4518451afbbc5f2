import { createHash, timingSafeEqual } from "node:crypto";
import { type ChannelPeer, TensorwireError } from "@tensorwire/core";
import { isLoopback } from "../channel/address.js";

/** What HELLO, and any HTTP server, has room for. */
export const MAX_TOKEN_LENGTH = 8192;

/** What a header can carry, and nobody takes for the end of it. Of an error it is never a part. */
const TOKEN = /^[\x21-\x7e]+$/;

/** @throws TensorwireError `INVALID_ARGUMENT`, which does not repeat the token. */
export function checkToken(token: string): string {
  if (TOKEN.test(token) && token.length <= MAX_TOKEN_LENGTH) return token;
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `a token is 1 to ${MAX_TOKEN_LENGTH} visible ASCII characters, without spaces: this one is not`,
  );
}

export interface ShownHeaders {
  readonly token?: string | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
}

/** Whether two texts are the same; the time that it takes says nothing of where they differ. */
export function sameSecret(a: string | undefined, b: string | undefined): boolean {
  return timingSafeEqual(digestOf(a), digestOf(b));
}

const digestOf = (text = ""): Buffer => createHash("sha256").update(text).digest();

/** What is sent with a request to `url`. @throws TensorwireError `INVALID_ARGUMENT` for a token that is none, or in clear text. */
export function headersWith(
  { protocol, host, hostname }: URL,
  { token, headers }: ShownHeaders,
): Record<string, string> {
  if (token === undefined) return { ...headers };
  checkPrivacy({ private: /^(?:wss|https):$/.test(protocol) || isLoopback(hostname) }, host);
  return { ...headers, authorization: `Bearer ${checkToken(token)}` };
}

/** The token of an `Authorization` header. Of another scheme there is none. */
export function tokenOfHeader(header: string | undefined): string | undefined {
  const [, token] = /^Bearer +(\S+)$/i.exec(header ?? "") ?? [];
  return token !== undefined && token.length <= MAX_TOKEN_LENGTH ? token : undefined;
}

/** The token that a browser has asked its user for as a password: it cannot show one otherwise. Any user's name will do. */
export function passwordOfHeader(header: string | undefined): string | undefined {
  const [, encoded] = /^Basic +([A-Za-z0-9+/=]+)$/i.exec(header ?? "") ?? [];
  if (encoded === undefined) return undefined;
  const [, token] = /^[^:]*:(\S+)$/.exec(Buffer.from(encoded, "base64").toString("utf8")) ?? [];
  return token !== undefined && token.length <= MAX_TOKEN_LENGTH ? token : undefined;
}

/**
 * A token is not shown where others can read it.
 * @param where For the message.
 * @throws TensorwireError `INVALID_ARGUMENT`.
 */
export function checkPrivacy(peer: Pick<ChannelPeer, "private"> | undefined, where: string): void {
  if (peer?.private) return;
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `a token would travel to ${where} in clear text, for anybody between to read: use wss:, https: or tls:, or leave the token out`,
  );
}
