import { fileNameFault } from "./file-name.js";

/** Longest segment, in bytes: what our own files beside it are called (`NAME.part.lock.guard.UUID`) must fit into 255. */
export const MAX_MODEL_NAME_SEGMENT_BYTES = 192;

/** Longest name, in bytes, of all segments together. */
export const MAX_MODEL_NAME_BYTES = 1024;

/** What Windows takes for a device, whatever stands behind the first dot. */
const DEVICE = /^(?:con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(?:\.|$)/i;

/** What the names of our own files beside an unfinished one hold. */
const OURS = /\.(?:part|journal|lock|guard)(?:\.|$)/i;

/** Controls, marks that change the reading order or cannot be seen, halves of characters, line and paragraph ends. */
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;

/**
 * Why `name` is not the name of a model that a peer may ask for or send; undefined when it is one. Such names are relative
 * paths of `/`-separated segments, which mean the same on every system and in a URL, never lead out of their folder, and
 * are never taken for a device, for a hidden file, or for one of our own.
 * @example
 * console.log(modelNameFault("site-1/round-3")); // undefined
 */
export function modelNameFault(name: string): string | undefined {
  if (new TextEncoder().encode(name).length > MAX_MODEL_NAME_BYTES) {
    return `is longer than ${MAX_MODEL_NAME_BYTES} bytes`;
  }
  for (const segment of name.split("/")) {
    const fault = segmentFault(segment);
    if (fault !== undefined) return segment === name ? fault : `has a part that ${fault}`;
  }
  return undefined;
}

function segmentFault(segment: string): string | undefined {
  const fault = fileNameFault(segment);
  if (fault !== undefined) return fault;
  if (INVISIBLE.test(segment)) return "holds a character that cannot be seen";
  if (segment.normalize("NFC") !== segment) return "is not in Unicode normalization form C";
  if (/["<>|*]/.test(segment)) return 'holds one of " < > | *';
  // Whoever decodes it once more would read something else.
  if (/%[0-9a-f]{2}/i.test(segment)) return "holds a percent-encoding";
  if (segment.startsWith(".")) return "begins with a dot";
  if (segment.startsWith(" ")) return "begins with a space";
  if (DEVICE.test(segment)) return "is a device on Windows";
  if (OURS.test(segment)) return "is the name of an unfinished file";
  if (new TextEncoder().encode(segment).length > MAX_MODEL_NAME_SEGMENT_BYTES) {
    return `is longer than ${MAX_MODEL_NAME_SEGMENT_BYTES} bytes`;
  }
  return undefined;
}

/**
 * The same for names that some file systems take for one: they differ only in case, in normalization, or in compatible
 * forms of a character.
 * @example
 * console.log(modelNameKey("Llama") === modelNameKey("llama")); // true
 */
export function modelNameKey(name: string): string {
  return name.normalize("NFKC").toUpperCase().toLowerCase().normalize("NFKC");
}
