/**
 * The running kernel as the judge: loads the same instructions through bpf(2) and says whether its verifier takes them.
 * Nothing is ever attached or run.
 */
import koffi from 'koffi';
import { encode } from '../../src/isa/codec.ts';
import type { Instruction } from '../../src/isa/instruction.ts';
import { MAP_TYPE } from '../../src/maps/uapi.ts';
import type { MapSpec, ProgramSpec, ProgramType } from '../../src/object/spec.ts';

const SYS_BPF = 321;
const MAP_CREATE = 0;
const MAP_UPDATE = 2;
const PROG_LOAD = 5;
const MAP_FREEZE = 22;
const LOG_BYTES = 1 << 24;
const PROGRAM_TYPES: Readonly<Record<Exclude<ProgramType, 'raw'>, number>> = {
  socket_filter: 1,
  sched_cls: 3,
  sched_act: 4,
  xdp: 6,
  cgroup_skb: 8,
};
const ATTACH_TYPES: Readonly<Record<string, number>> = { cgroup_inet_ingress: 0, cgroup_inet_egress: 1 };

interface Judgement {
  readonly accepted: boolean;
  readonly log: string;
}

export interface Judge {
  /** @param logLevel as in bpf(2): 1 path in work, 2 everything; 0 none (faster). */
  judge(program: ProgramSpec, logLevel?: number): Judgement;
  dispose(): void;
}

/** @returns undefined where the kernel lets us load nothing; throws instead in CI. */
export function openJudge(maps: ReadonlyMap<string, MapSpec>): Judge | undefined {
  const missing = (why: string): undefined => {
    if (process.env.CI) throw new Error(`no bpf(2): ${why}`);
    return undefined;
  };
  if (process.platform !== 'linux' || process.arch !== 'x64') return missing('not Linux on x86-64');
  const libc = koffi.load('libc.so.6');
  const syscall = libc.func('long syscall(long number, long command, void *attr, long size)');
  const close = libc.func('int close(int fd)');
  const log = Buffer.alloc(LOG_BYTES);
  const bpf = (command: number, fill: (attr: Buffer) => void): number => {
    const attr = Buffer.alloc(128);
    fill(attr);
    return Number(syscall(SYS_BPF, command, attr, 128));
  };
  const pointer = (attr: Buffer, at: number, to: Buffer): void => {
    attr.writeBigUInt64LE(koffi.address(to), at);
  };
  const fds = new Map<string, number>();
  const createMap = (spec: MapSpec): number => {
    const inner = spec.inner === undefined ? 0 : createMap(spec.inner);
    const fd = bpf(MAP_CREATE, attr => {
      attr.writeUInt32LE(MAP_TYPE[spec.type], 0);
      attr.writeUInt32LE(spec.keySize, 4);
      attr.writeUInt32LE(spec.valueSize, 8);
      attr.writeUInt32LE(spec.maxEntries, 12);
      attr.writeUInt32LE(spec.flags, 16);
      attr.writeUInt32LE(inner, 20);
    });
    if (fd < 0) return fd;
    for (const entry of spec.contents) {
      if (!('value' in entry)) continue;
      const key = Buffer.alloc(4);
      key.writeUInt32LE(entry.key);
      const value = Buffer.from(entry.value);
      bpf(MAP_UPDATE, attr => {
        attr.writeUInt32LE(fd, 0);
        pointer(attr, 8, key);
        pointer(attr, 16, value);
      });
    }
    if (spec.frozen === true) bpf(MAP_FREEZE, attr => attr.writeUInt32LE(fd, 0));
    return fd;
  };
  for (const [name, spec] of maps) {
    const fd = createMap(spec);
    if (fd < 0) return missing(`map ${name}: errno ${koffi.errno()}`);
    fds.set(name, fd);
  }
  const withFds = (i: Instruction): Instruction => {
    if (i.kind !== 'loadImm64' || i.reference === undefined) return i;
    if (i.reference.type === 'map') return { ...i, reference: { type: 'mapFd', fd: fds.get(i.reference.map)! } };
    if (i.reference.type === 'mapValue')
      return { ...i, reference: { type: 'mapFdValue', fd: fds.get(i.reference.map)!, offset: i.reference.offset } };
    return i;
  };
  return {
    judge(program, logLevel = 1) {
      if (program.type === 'raw') throw new Error('the kernel has no raw programs');
      const code = Buffer.from(encode(program.insns.map(withFds)));
      const license = Buffer.from(`${program.license}\0`);
      log.fill(0, 0, 1);
      const type = PROGRAM_TYPES[program.type];
      const fd = bpf(PROG_LOAD, attr => {
        attr.writeUInt32LE(type, 0);
        attr.writeUInt32LE(code.length / 8, 4);
        pointer(attr, 8, code);
        pointer(attr, 16, license);
        if (logLevel > 0) {
          attr.writeUInt32LE(logLevel, 24);
          attr.writeUInt32LE(LOG_BYTES, 28);
          pointer(attr, 32, log);
        }
        attr.writeUInt32LE(ATTACH_TYPES[program.attachType ?? ''] ?? 0, 68);
      });
      if (fd >= 0) close(fd);
      return { accepted: fd >= 0, log: log.toString('latin1', 0, log.indexOf(0)) };
    },
    dispose() {
      for (const fd of fds.values()) close(fd);
    },
  };
}
