import { libcOf } from "./libc.js";

/**
 * The package that holds the addon as it was built for this platform; undefined where there is none. npm installs it
 * beside this one where its `os`, `cpu` and `libc` are those of the machine.
 */
export function platformPackage(): string | undefined {
  const { platform, arch, execPath } = process;
  if (platform !== "linux" || (arch !== "x64" && arch !== "arm64")) return undefined;
  try {
    const libc = libcOf(execPath);
    return libc && `@tensorwire/quant-native-${platform}-${arch}-${libc}`;
  } catch {
    // Node's file is gone, as after an upgrade beneath a running process, or not to be read.
    return undefined;
  }
}
