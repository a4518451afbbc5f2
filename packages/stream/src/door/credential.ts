import { type ChannelPeer, TensorwireError } from "@tensorwire/core";

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

/** Where a token may be shown. */
export const AUTHORIZATION = "authorization";

export function bearer(token: string): string {
  return `Bearer ${checkToken(token)}`;
}

/** The token of an `Authorization` header. Of another scheme there is none. */
export function tokenOfHeader(header: string | undefined): string | undefined {
  const [, token] = /^Bearer +(\S+)$/i.exec(header ?? "") ?? [];
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
