/**
 * Values for `extern ... __kconfig`: the kernel's configuration, and what libbpf adds to it. As libbpf does it, `CONFIG_` names are
 * looked up in the text of a configuration; "LINUX_" names stand for what the running kernel is and can.
 */
import type { Btf, BtfType } from './btf.ts';
import { ObjectError } from './errors.ts';

/** Names that no configuration has. The version is that of the kernel whose rules the verifier follows: 6.18.0. */
const LINUX: ReadonlyMap<string, bigint> = new Map([
  ['LINUX_KERNEL_VERSION', (6n << 16n) | (18n << 8n)],
  ['LINUX_HAS_BPF_COOKIE', 1n],
  ['LINUX_HAS_SYSCALL_WRAPPER', 1n],
]);

const TRISTATE: Readonly<Record<string, string>> = { y: 'TRI_YES', m: 'TRI_MODULE', n: 'TRI_NO' };

export class Kconfig {
  /** Whether a configuration was given. */
  readonly given: boolean;
  readonly #values = new Map<string, string>();

  /** @param text lines `CONFIG_NAME=value`, as in /boot/config-*; others are passed over */
  constructor(text: string | undefined) {
    this.given = text !== undefined;
    for (const line of (text ?? '').split('\n')) {
      const [, name, value] = /^(CONFIG_\w+)=(.*?)\s*$/.exec(line) ?? [];
      if (name !== undefined) this.#values.set(name, value!);
    }
  }

  /**
   * The bytes of a variable.
   * @param type BTF id of the variable
   * @returns undefined where the configuration does not say
   * @throws ObjectError `bad_value` where its type cannot hold the value
   */
  bytes(name: string, type: number, btf: Btf): Uint8Array | undefined {
    const special = LINUX.get(name);
    const text = special === undefined ? this.#values.get(name) : `${special}`;
    if (text === undefined) return undefined;
    const variable = btf.type(type);
    const resolved = btf.resolved(variable.kind === 'var' ? variable.type : type);
    const bytes = new Uint8Array(btf.sizeOf(type));
    const misfit = (expected: string): never => {
      throw new ObjectError('bad_value', `the configuration has ${name}=${text}; its variable ${expected}`, {
        symbol: name,
        value: text,
      });
    };
    if (text.startsWith('"')) {
      if (resolved.kind !== 'array' || !isCharacter(btf.resolved(resolved.type))) misfit('is no array of char');
      // As libbpf: cut off to fit, with a 0 at the end.
      const characters = new TextEncoder().encode(text.slice(1, text.endsWith('"') ? -1 : undefined));
      bytes.set(characters.subarray(0, Math.max(0, bytes.length - 1)));
      return bytes;
    }
    if (/^[ymn]$/.test(text)) {
      if (resolved.kind === 'enum' || resolved.kind === 'enum64') {
        const value = resolved.values.find(each => each.name === TRISTATE[text])?.value;
        store(bytes, value ?? misfit('is an enum, but not enum libbpf_tristate'));
      } else if (resolved.kind === 'int' && resolved.bool && text !== 'm') bytes[0] = text === 'y' ? 1 : 0;
      else if (isCharacter(resolved)) bytes[0] = text.charCodeAt(0);
      else misfit(`must be bool (but for m), char or enum libbpf_tristate`);
      return bytes;
    }
    if (!/^-?(\d+|0[xX][0-9a-fA-F]+)$/.test(text)) misfit('can hold numbers, "text", y, n and m only');
    if (resolved.kind !== 'int') return misfit('is no integer');
    const value = text.startsWith('-') ? -BigInt(text.slice(1)) : BigInt(text);
    if (resolved.bool && value !== 0n && value !== 1n) misfit('is bool');
    const bits = 8 * resolved.size;
    if ((resolved.signed ? BigInt.asIntN(bits, value) : BigInt.asUintN(bits, value)) !== value)
      misfit(`has ${bits} bits, ${resolved.signed ? 'signed' : 'unsigned'}`);
    store(bytes, value);
    return bytes;
  }
}

const isCharacter = (type: BtfType): boolean => type.kind === 'int' && type.size === 1 && !type.bool;

function store(bytes: Uint8Array, value: bigint): void {
  for (let i = 0; i < bytes.length; i++) bytes[i] = Number(BigInt.asUintN(8, value >> BigInt(8 * i)));
}
