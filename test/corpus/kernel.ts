/**
 * The running kernel as the oracle for whole objects: bpftool (that is libbpf) loads and pins them, bpf(2) runs them on
 * packets with BPF_PROG_TEST_RUN and reads their maps. Nothing is attached; what is pinned is removed.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import koffi from 'koffi';
import { encode, type Instruction, type MapSpec, type ProgramSpec, type ProgramType } from '../../src/index.ts';
import { MAP_TYPE } from '../../src/maps/uapi.ts';
import { requireTool } from '../tools.ts';
import { comparable, lines, type MapContents } from './observe.ts';

const SYS_BPF: Readonly<Record<string, number>> = { x64: 321, arm64: 280 };
const Command = { mapCreate: 0, lookup: 1, nextKey: 4, progLoad: 5, objectGet: 7, testRun: 10 } as const;
const PROGRAM_TYPE = { socket_filter: 1, sched_cls: 3, sched_act: 4, xdp: 6, cgroup_skb: 8 } as const;
const ATTR_BYTES = 144;
const OUT_BYTES = 1 << 14;
const LOG_BYTES = 1 << 20;
const SK_BUFF_BYTES = 192;
const ETHERNET_BYTES = 14;

interface KernelRun {
  readonly returnValue: number;
  /** Metadata, then the packet. */
  readonly bytes: Uint8Array;
  /** skb programs: the mark afterwards. */
  readonly mark: number | undefined;
}

interface KernelObject {
  run(program: string, packet: Uint8Array): KernelRun;
  contents(): MapContents;
  close(): void;
}

interface Kernel {
  /** The object, or the log of its refusal. */
  load(
    file: string,
    programs: ReadonlyMap<string, ProgramType>,
    maps: ReadonlyMap<string, MapSpec>,
  ): KernelObject | string;
  /** The same for one program that was made without an object file, whose maps start empty. */
  loadProgram(program: ProgramSpec, maps: ReadonlyMap<string, MapSpec>): KernelObject | string;
}

type Syscall = (number: number, command: number, attr: Uint8Array, size: number) => number | bigint;

function possibleCpus(): number {
  return Number(/(\d+)\s*$/.exec(readFileSync('/sys/devices/system/cpu/possible', 'utf8'))?.[1] ?? 0) + 1;
}

/** @returns undefined where there is no bpftool or we are not root; throws instead in CI. */
export function openKernel(): Kernel | undefined {
  const bpftool = requireTool('bpftool');
  const number = SYS_BPF[process.arch];
  if (bpftool === undefined || number === undefined || process.platform !== 'linux' || process.getuid?.() !== 0) {
    if (process.env.CI)
      throw new Error('the corpus must be compared with the kernel in CI: needs Linux, root, bpftool');
    return undefined;
  }
  const libc = koffi.load('libc.so.6');
  const syscall = libc.func('long syscall(long number, long command, void *attr, long size)') as Syscall;
  const close = libc.func('int close(int fd)') as (fd: number) => number;
  const cpus = possibleCpus();
  let loads = 0;

  const bpf = (command: number, fill: (attr: Buffer) => void): { result: number; attr: Buffer } => {
    const attr = Buffer.alloc(ATTR_BYTES);
    fill(attr);
    return { result: Number(syscall(number, command, attr, ATTR_BYTES)), attr };
  };
  const pointer = (attr: Buffer, at: number, to: Buffer): void => {
    attr.writeBigUInt64LE(koffi.address(to), at);
  };
  const must = (what: string, { result, attr }: { result: number; attr: Buffer }) => {
    if (result < 0) throw new Error(`${what}: errno ${koffi.errno()}`);
    return { result, attr };
  };
  const open = (path: string): number => {
    const name = Buffer.from(`${path}\0`);
    return must(
      path,
      bpf(Command.objectGet, attr => pointer(attr, 0, name)),
    ).result;
  };

  function* entries(fd: number, spec: MapSpec): Generator<[Uint8Array, Uint8Array]> {
    const perCpu = spec.type.includes('percpu');
    const value = Buffer.alloc(perCpu ? Math.ceil(spec.valueSize / 8) * 8 * cpus : spec.valueSize);
    let key: Buffer | undefined;
    for (;;) {
      const next = Buffer.alloc(spec.keySize);
      const before = key;
      const { result } = bpf(Command.nextKey, attr => {
        attr.writeUInt32LE(fd, 0);
        if (before !== undefined) pointer(attr, 8, before);
        pointer(attr, 16, next);
      });
      if (result < 0) return;
      key = next;
      // Maps of devices name all their keys, also those that hold nothing.
      const { result: found } = bpf(Command.lookup, attr => {
        attr.writeUInt32LE(fd, 0);
        pointer(attr, 8, next);
        pointer(attr, 16, value);
      });
      if (found < 0) continue;
      yield [next, Uint8Array.from(value)];
    }
  }

  const kernelObject = (
    programs: ReadonlyMap<string, { fd: number; type: ProgramType }>,
    maps: ReadonlyMap<MapSpec, number>,
  ): KernelObject => ({
    run: (name, packet) => testRun(programs.get(name)!.fd, programs.get(name)!.type, packet),
    contents: () =>
      Object.fromEntries(
        [...maps].filter(([spec]) => comparable(spec)).map(([spec, fd]) => [spec.name, lines(spec, entries(fd, spec))]),
      ),
    close: () => {
      for (const { fd } of programs.values()) close(fd);
      for (const fd of maps.values()) close(fd);
    },
  });

  return {
    loadProgram(program, maps) {
      if (program.type === 'raw') throw new Error('the kernel has no raw programs');
      const type = PROGRAM_TYPE[program.type];
      const fds = new Map<string, number>();
      for (const spec of maps.values()) {
        const made = bpf(Command.mapCreate, attr => {
          const words = [MAP_TYPE[spec.type], spec.keySize, spec.valueSize, spec.maxEntries, spec.flags];
          for (const [index, word] of words.entries()) attr.writeUInt32LE(word, 4 * index);
        });
        fds.set(spec.name, must(spec.name, made).result);
      }
      const insns = program.insns.map((insn): Instruction => {
        if (insn.kind !== 'loadImm64' || insn.reference?.type !== 'map') return insn;
        return { ...insn, reference: { type: 'mapFd', fd: fds.get(insn.reference.map)! } };
      });
      const code = Buffer.from(encode(insns));
      const license = Buffer.from('GPL\0');
      const loadWith = (log: Buffer | undefined): number =>
        bpf(Command.progLoad, attr => {
          attr.writeUInt32LE(type, 0);
          attr.writeUInt32LE(code.length / 8, 4);
          pointer(attr, 8, code);
          pointer(attr, 16, license);
          if (log === undefined) return;
          attr.writeUInt32LE(1, 24);
          attr.writeUInt32LE(log.length, 28);
          pointer(attr, 32, log);
        }).result;
      // A log that overflows its buffer is a failure of its own.
      const fd = loadWith(undefined);
      const held = kernelObject(
        fd < 0 ? new Map() : new Map([[program.name, { fd, type: program.type }]]),
        new Map([...maps].map(([name, spec]) => [spec, fds.get(name)!])),
      );
      if (fd >= 0) return held;
      const log = Buffer.alloc(LOG_BYTES);
      loadWith(log);
      held.close();
      return log.toString('latin1', 0, log.indexOf(0));
    },

    load(file, programs, maps) {
      const pins = `/sys/fs/bpf/switchyard-corpus-${process.pid}-${loads++}`;
      try {
        const { status, stdout, stderr } = spawnSync(
          bpftool,
          ['prog', 'loadall', file, pins, 'pinmaps', `${pins}-maps`],
          { encoding: 'utf8', maxBuffer: 1 << 28 },
        );
        if (status !== 0) return stdout + stderr;
        const held = new Map([...programs].map(([name, type]) => [name, { fd: open(`${pins}/${name}`), type }]));
        const names = maps.size === 0 ? [] : readdirSync(`${pins}-maps`);
        // All of them are kept open: a prog array is emptied when nothing in user space holds it.
        const mapFds = new Map<MapSpec, number>();
        for (const spec of maps.values()) {
          // Pins have underscores for dots, and data maps the object's name in front.
          const pinned = spec.name.replaceAll('.', '_');
          const name = names.find(
            candidate => candidate === pinned || (spec.name.startsWith('.') && candidate.endsWith(pinned)),
          );
          if (name === undefined) throw new Error(`map ${spec.name} is not among ${names.join(', ')}`);
          mapFds.set(spec, open(`${pins}-maps/${name}`));
        }
        return kernelObject(held, mapFds);
      } finally {
        rmSync(pins, { recursive: true, force: true });
        rmSync(`${pins}-maps`, { recursive: true, force: true });
      }
    },
  };

  function testRun(fd: number, type: ProgramType, packet: Uint8Array): KernelRun {
    // A socket filter on a packet socket sees the Ethernet header; a test run takes the first one away.
    const hidden = type === 'socket_filter' ? packet.subarray(0, ETHERNET_BYTES) : new Uint8Array(0);
    const input = Buffer.concat([hidden, packet]);
    const output = Buffer.alloc(OUT_BYTES);
    const context = Buffer.alloc(SK_BUFF_BYTES);
    const skb = type !== 'xdp';
    const { attr } = must(
      'test run',
      bpf(Command.testRun, request => {
        request.writeUInt32LE(fd, 0);
        request.writeUInt32LE(input.length, 8);
        request.writeUInt32LE(OUT_BYTES, 12);
        pointer(request, 16, input);
        pointer(request, 24, output);
        request.writeUInt32LE(1, 32);
        if (!skb) return;
        request.writeUInt32LE(SK_BUFF_BYTES, 44);
        pointer(request, 56, context);
      }),
    );
    const bytes = Uint8Array.from(output.subarray(hidden.length, attr.readUInt32LE(12)));
    // Its Ethernet header is not given back either where the program cannot see it.
    if (type === 'cgroup_skb' || type === 'socket_filter') bytes.set(packet.subarray(0, ETHERNET_BYTES));
    return { returnValue: attr.readUInt32LE(4), bytes, mark: skb ? context.readUInt32LE(8) : undefined };
  }
}
