/** Half-encoded forms count too: a URL takes `%2e%2e` for `..`. */
const DOTS = /^(?:\.|%2e)+$/i;
/** Separators, drive letters and NTFS streams, and what a URL would read as its own. */
const SPECIAL = /[/\\:?#]/;

/**
 * Why `name`, found in a file that is not to be believed, is not a plain file name; undefined when it is one. Plain names
 * mean the same on every system and in a URL, and never lead out of their folder.
 * @example
 * console.log(fileNameFault("model-00001-of-00002.safetensors")); // undefined
 */
export function fileNameFault(name: string): string | undefined {
  if (name === "") return "is empty";
  if (DOTS.test(name)) return "is a step in the folder tree";
  if (SPECIAL.test(name)) return "holds one of / \\ : ? #";
  for (let i = 0; i < name.length; i++) {
    const code = name.charCodeAt(i);
    if (code < 0x20 || code === 0x7f) return "holds a control character";
  }
  // Windows drops these, so that two names become one, and "... " a step up.
  if (/[. ]$/.test(name)) return "ends in a dot or a space";
  if (new TextEncoder().encode(name).length > 255) return "is longer than 255 bytes";
  return undefined;
}

/**
 * The same for a relative path of such names between single `/`.
 * @example
 * console.log(relativePathFault("shards/model.safetensors")); // undefined
 */
export function relativePathFault(path: string): string | undefined {
  for (const name of path.split("/")) {
    const fault = fileNameFault(name);
    if (fault !== undefined) return name === path ? fault : `has a part that ${fault}`;
  }
  return undefined;
}
