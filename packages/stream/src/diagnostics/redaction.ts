/**
 * A message without what may be a credential: the user and password of a URL, and its query, where people put tokens. Errors
 * name the URLs that they are about, and logs are read by more people than errors.
 */
export function redacted(text: string): string {
  // Schemes are looked for where a word begins: from each of its letters, a long word would take its square in time.
  return text
    .replace(/(?<![a-z0-9+.-])([a-z0-9+.-]+:\/\/)[^\s/?#"@]*@/gi, "$1…@")
    .replace(/(?<![a-z0-9+.-])([a-z0-9+.-]+:\/\/[^\s?#"]*)\?[^\s"#]*?(?=:?(?:[\s"#]|$))/gi, "$1?…")
    .replace(/\b(bearer|basic)\s+[^\s"]+/gi, "$1 …");
}
