/** The running kernel's verdict on programs of the tables, through bpf(2). Nothing is attached or run. */
import koffi from 'koffi';
import { MAP_TYPE } from '../../src/maps/uapi.ts';
import type { MapSpec } from '../../src/object/spec.ts';
import { VALUE_BTF } from './maps.ts';

const SYS_BPF = 321;
const MAP_CREATE = 0;
const PROG_LOAD = 5;
const BTF_LOAD = 18;
const ATTR_BYTES = 128;
const LOG_BYTES = 1 << 20;

/** A program to load: its code in wire format, by slot the maps whose descriptors go there, numbers of uapi bpf.h. */
interface Load {
  readonly code: Uint8Array;
  readonly maps: ReadonlyMap<number, MapSpec>;
  readonly kernelType: number;
  readonly attachType: number;
  readonly loadFlags: number;
}

export interface KernelJudge {
  accepts(program: Load): boolean;
  /** The log's last words on a program that is refused, undefined for one that is accepted. */
  refusal(program: Load): string | undefined;
  dispose(): void;
}

/** @returns undefined where the kernel lets us load nothing; throws instead for root in CI. */
export function openKernelJudge(): KernelJudge | undefined {
  const missing = (why: string): undefined => {
    if (process.env.CI && process.platform === 'linux' && process.arch === 'x64') throw new Error(`no bpf(2): ${why}`);
    return undefined;
  };
  if (process.platform !== 'linux' || process.arch !== 'x64') return missing('not Linux on x86-64');
  const libc = koffi.load('libc.so.6');
  const syscall = libc.func('long syscall(long number, long command, void *attr, long size)');
  const close = libc.func('int close(int fd)');
  const log = Buffer.alloc(LOG_BYTES);
  const license = Buffer.from('GPL\0');
  const bpf = (command: number, fill: (attr: Buffer) => void): number => {
    const attr = Buffer.alloc(ATTR_BYTES);
    fill(attr);
    return Number(syscall(SYS_BPF, command, attr, ATTR_BYTES));
  };
  const pointer = (attr: Buffer, at: number, to: Buffer): void => {
    attr.writeBigUInt64LE(koffi.address(to), at);
  };
  const btfBytes = Buffer.from(VALUE_BTF);
  const btf = bpf(BTF_LOAD, attr => {
    pointer(attr, 0, btfBytes);
    attr.writeUInt32LE(btfBytes.length, 16);
  });
  if (btf < 0) return missing(`BTF refused, errno ${koffi.errno()}`);
  const fds = new Map<string, number>();
  // A prog array belongs to the first program that uses it, and takes only its like after that.
  const create = (spec: MapSpec, type: number): number => {
    const key = spec.type === 'prog_array' ? `${spec.name} of type ${type}` : spec.name;
    const known = fds.get(key);
    if (known !== undefined) return known;
    const inner = spec.inner === undefined ? 0 : create(spec.inner, type);
    const fd = bpf(MAP_CREATE, attr => {
      const words = [MAP_TYPE[spec.type], spec.keySize, spec.valueSize, spec.maxEntries, spec.flags, inner];
      for (const [i, word] of words.entries()) attr.writeUInt32LE(word, 4 * i);
      if (spec.btfValueId === undefined) return;
      attr.writeUInt32LE(btf, 48);
      attr.writeUInt32LE(spec.btfKeyId ?? 0, 52);
      attr.writeUInt32LE(spec.btfValueId, 56);
    });
    if (fd < 0) throw new Error(`the kernel made no map ${spec.name}: errno ${koffi.errno()}`);
    fds.set(key, fd);
    return fd;
  };
  const load = ({ code, maps, kernelType, attachType, loadFlags }: Load, logLevel: number): boolean => {
    const program = Buffer.from(code);
    for (const [slot, spec] of maps) program.writeInt32LE(create(spec, kernelType), slot * 8 + 4);
    const fd = bpf(PROG_LOAD, attr => {
      attr.writeUInt32LE(kernelType, 0);
      attr.writeUInt32LE(program.length / 8, 4);
      pointer(attr, 8, program);
      pointer(attr, 16, license);
      if (logLevel > 0) {
        attr.writeUInt32LE(logLevel, 24);
        attr.writeUInt32LE(LOG_BYTES, 28);
        pointer(attr, 32, log);
      }
      attr.writeUInt32LE(loadFlags, 44);
      attr.writeUInt32LE(attachType, 68);
    });
    if (fd >= 0) close(fd);
    return fd >= 0;
  };
  return {
    accepts: program => load(program, 0),
    refusal(program) {
      if (load(program, 0)) return undefined;
      const errno = koffi.errno();
      log.fill(0, 0, 1);
      load(program, 1);
      const lines = log.toString('latin1', 0, log.indexOf(0)).trimEnd().split('\n');
      const said = lines.filter(line => !/^(processed|verification time|stack depth|mark_precise)/.test(line));
      return said.at(-1) || `errno ${errno}`;
    },
    dispose() {
      for (const fd of fds.values()) close(fd);
      close(btf);
    },
  };
}
