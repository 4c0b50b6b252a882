/**
 * Host functions that helper routines call: what BPF can't do itself. One JS implementation serves every backend; a
 * native host may put a libc function of the same arguments in its place (clock_gettime).
 */
import type { Arena } from '../memory/arena.ts';
import { parseInteger } from './parse-integer.ts';
import { type FormatMemory, formatTrace } from './printk.ts';

/** Arguments r1-r5 and result r0, as u64. */
type Service = (a: bigint, b: bigint, c: bigint, d: bigint, e: bigint) => bigint;
export type Services = Readonly<Record<ServiceName, Service>> & Readonly<Record<string, Service | undefined>>;

export interface ServiceEnvironment {
  readonly arena: Arena;
  /** Time of a POSIX clock in nanoseconds: 1 monotonic, 6 monotonic coarse, 7 boottime, 11 TAI. */
  now(clock: number): bigint;
  /** Thread group id in the upper, thread id in the lower 32 bits; never 0. */
  pidTgid(): bigint;
  /** Group id in the upper, user id in the lower 32 bits; default 0 (root). */
  uidGid?(): bigint;
  /** Command name, at most 15 bytes of ASCII are used; default "switchyard". */
  readonly command?: string;
  /** Receives each line of bpf_trace_printk, without the newline at its end. */
  onTrace(line: string): void;
}

const EFAULT = -14n;
const EINVAL = -22n;
const NANOSECONDS = 1_000_000_000n;
/** Kernel's buffer for one line, NUL included. */
const TRACE_BYTES = 1024;
const LONG = 8;

/** The arena for services: addresses come from programs, so one that lies outside is an answer, not an exception. */
class Memory implements FormatMemory {
  readonly #arena: Arena;

  constructor(arena: Arena) {
    this.#arena = arena;
  }

  readBytes(address: bigint, length: number): Uint8Array | undefined {
    const at = BigInt.asUintN(64, address) - this.#arena.base;
    if (at < 0n || at + BigInt(length) > BigInt(this.#arena.size)) return undefined;
    return this.#arena.bytes.subarray(Number(at), Number(at) + length);
  }

  /** Up to the NUL, at most `limit` - 1 chars, one char per byte. */
  readString(address: bigint, limit: number): string | undefined {
    let text = '';
    for (let i = 0; i < limit - 1; i++) {
      const byte = this.readBytes(address + BigInt(i), 1);
      if (byte === undefined) return undefined;
      if (byte[0] === 0) break;
      text += String.fromCharCode(byte[0]!);
    }
    return text;
  }

  readText(address: bigint, length: bigint): string | undefined {
    const bytes = this.readBytes(address, Number(BigInt.asUintN(32, length)));
    return bytes && Array.from(bytes, byte => String.fromCharCode(byte)).join('');
  }

  writeU64(address: bigint, value: bigint): boolean {
    const bytes = this.readBytes(address, LONG);
    if (bytes === undefined) return false;
    for (let i = 0; i < LONG; i++) bytes[i] = Number((value >> BigInt(8 * i)) & 0xffn);
    return true;
  }
}

function decodeUtf8(text: string): string {
  return new TextDecoder().decode(Uint8Array.from(text, c => c.charCodeAt(0)));
}

type Trace = (line: string) => void;

function trace(memory: Memory, onTrace: Trace, format: bigint, size: bigint, values: readonly bigint[]): bigint {
  const text = memory.readText(format, size);
  if (text === undefined) return EFAULT;
  const end = text.indexOf('\0');
  const line = end < 0 ? undefined : formatTrace(text.slice(0, end), values, memory);
  if (line === undefined) return EINVAL;
  // A NUL that %c printed ends the line, but counts.
  const [shown] = line.slice(0, TRACE_BYTES - 1).split('\0', 1);
  onTrace(decodeUtf8(shown!).replace(/\n$/, ''));
  return BigInt(line.length);
}

/** (format, its size, three values) */
function tracePrintk(memory: Memory, onTrace: Trace): Service {
  return (format, size, ...values) => trace(memory, onTrace, format, size, values);
}

/** (format, its size, values, their size) */
function traceVprintk(memory: Memory, onTrace: Trace): Service {
  return (format, size, values, valuesSize) => {
    const list = valuesAt(memory, values, valuesSize);
    return list ? trace(memory, onTrace, format, size, list) : EINVAL;
  };
}

/** Most values of one format, as the kernel's. */
const MOST_VALUES = 12;

/** The values of 8 bytes each that a format takes; undefined where the kernel answers EINVAL or the address is bad. */
function valuesAt(memory: Memory, address: bigint, size: bigint): bigint[] | undefined {
  const bytes = Number(BigInt.asUintN(32, size));
  if (bytes % LONG !== 0 || bytes > LONG * MOST_VALUES) return undefined;
  const content = bytes === 0 ? new Uint8Array(0) : memory.readBytes(address, bytes)?.slice();
  return content && [...new BigUint64Array(content.buffer)];
}

/** (buffer, its size, format, values, their size): the length of the text with its NUL, cut off to fit. */
function snprintf(memory: Memory): Service {
  return (buffer, size, format, values, valuesSize) => {
    const list = valuesAt(memory, values, valuesSize);
    const text = memory.readString(format, LONGEST_FORMAT);
    const result = list && text !== undefined ? formatTrace(text, list, memory) : undefined;
    if (result === undefined) return EINVAL;
    const room = Number(BigInt.asUintN(32, size));
    if (room > 0) {
      const target = memory.readBytes(buffer, room);
      if (target === undefined) return EFAULT;
      const kept = Math.min(result.length, room - 1);
      for (let i = 0; i < kept; i++) target[i] = result.charCodeAt(i);
      target[kept] = 0;
    }
    return BigInt(result.length + 1);
  };
}

/** Beyond any map that a format could be in. */
const LONGEST_FORMAT = 1 << 20;

function parse(memory: Memory, signed: boolean): Service {
  return (address, size, flags, result) => {
    const text = memory.readText(address, size);
    if (text === undefined) return EFAULT;
    const parsed = parseInteger(text, flags, signed);
    return memory.writeU64(result, parsed.value) ? BigInt(parsed.result) : EFAULT;
  };
}

/** The names that routines use in `call service NAME`. */
type ServiceName =
  | 'clock_gettime'
  | 'get_current_pid_tgid'
  | 'get_current_uid_gid'
  | 'get_current_comm'
  | 'trace_printk'
  | 'trace_vprintk'
  | 'snprintf'
  | 'strtol'
  | 'strtoul';

/** Every service, over one arena. Results are u64: an error number comes back as its two's complement. */
export function createServices(env: ServiceEnvironment): Services {
  const memory = new Memory(env.arena);
  const implementations: Record<ServiceName, Service> = {
    /** (clock, struct timespec *) */
    clock_gettime(clock, timespec) {
      const time = env.now(Number(BigInt.asUintN(32, clock)));
      const written = memory.writeU64(timespec, time / NANOSECONDS);
      return written && memory.writeU64(timespec + 8n, time % NANOSECONDS) ? 0n : EFAULT;
    },
    get_current_pid_tgid: () => env.pidTgid(),
    get_current_uid_gid: () => env.uidGid?.() ?? 0n,
    /** (buffer, size): NUL-terminated and NUL-padded. */
    get_current_comm(buffer, size) {
      const bytes = memory.readBytes(buffer, Number(BigInt.asUintN(32, size)));
      if (bytes === undefined) return EFAULT;
      const command = (env.command ?? 'switchyard').slice(0, 15);
      for (let i = 0; i < bytes.length; i++) {
        bytes[i] = i < bytes.length - 1 && i < command.length ? command.charCodeAt(i) & 0x7f : 0;
      }
      return 0n;
    },
    trace_printk: tracePrintk(memory, env.onTrace),
    trace_vprintk: traceVprintk(memory, env.onTrace),
    snprintf: snprintf(memory),
    /** (text, size, flags, int64 *) */
    strtol: parse(memory, true),
    strtoul: parse(memory, false),
  };
  const entries = Object.entries(implementations).map(([name, service]): [string, Service] => [
    name,
    (...args) => BigInt.asUintN(64, service(...args)),
  ]);
  return Object.fromEntries(entries) as Record<ServiceName, Service>;
}
