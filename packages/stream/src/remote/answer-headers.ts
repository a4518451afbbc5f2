import type { IncomingHttpHeaders } from "node:http";

// What an answer says of a file: a stranger's words, of which what is not well formed is not there.

/** The part of a file that an answer's body is. */
export interface ContentRange {
  readonly first: number;
  /** The byte after the last one. */
  readonly end: number;
  /** Bytes of the whole file, where it is said. */
  readonly size: number | undefined;
}

/** `Content-Range: bytes 0-99/1000`. */
export function contentRange({ "content-range": text = "" }: IncomingHttpHeaders): ContentRange | undefined {
  const [, first, last, size] = /^bytes +(\d{1,16})-(\d{1,16})\/(\d{1,16}|\*)$/i.exec(text.trim()) ?? [];
  if (first === undefined || last === undefined) return undefined;
  const range = {
    first: Number(first),
    end: Number(last) + 1,
    size: size === "*" ? undefined : Number(size),
  };
  const { end, size: all = end } = range;
  return range.first < end && end <= all && Number.isSafeInteger(all) ? range : undefined;
}

/** Bytes of the body, where they are said before it. */
export function contentLength({ "content-length": text = "" }: IncomingHttpHeaders): number | undefined {
  const length = /^\d{1,16}$/.test(text) ? Number(text) : undefined;
  return Number.isSafeInteger(length) ? length : undefined;
}

/** The entity tag that is another one after any change of the bytes. A weak one promises less, and counts for none. */
export function strongTag({ etag }: IncomingHttpHeaders): string | undefined {
  return etag !== undefined && /^"[\x21\x23-\x7e\x80-\xff]{1,512}"$/.test(etag) ? etag : undefined;
}

/** Whether the body is not the file's bytes, but those compressed, though nobody asked for it. */
export function isEncoded({ "content-encoding": encoding = "identity" }: IncomingHttpHeaders): boolean {
  return encoding.trim().toLowerCase() !== "identity";
}
