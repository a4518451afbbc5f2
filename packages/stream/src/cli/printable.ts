/**
 * Text of a peer's or a file's, made one line that can be shown: nothing in it moves the cursor, colours the terminal,
 * reverses the reading order, or looks like a line of ours.
 */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, (c) => `\\u{${c.codePointAt(0)!.toString(16)}}`);
}
