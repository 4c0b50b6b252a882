/** The running kernel as the oracle: BPF_PROG_TEST_RUN of programs that call helpers, through bpf(2). */
import koffi from 'koffi';
import { assemble } from '../../src/isa/assembler.ts';
import { encode } from '../../src/isa/codec.ts';

const SYS_BPF = 321;
const Command = { mapCreate: 0, mapLookup: 1, mapUpdate: 2, progLoad: 5, testRun: 10, mapFreeze: 22 } as const;
const ProgType = { socket_filter: 1, sched_cls: 3, sched_act: 4, xdp: 6, cgroup_skb: 8 } as const;
const BPF_F_RDONLY_PROG = 1 << 7;
const ARRAY = 2;
const ATTR_BYTES = 128;
const LOG_BYTES = 1 << 18;
const OUT_BYTES = 1 << 16;

interface TestRun {
  readonly result: number;
  readonly packet: Uint8Array;
  /** What the program left in its map. */
  readonly value: Uint8Array;
}

export interface Kernel {
  /** @param text program that may use map_fd[FD] where FD is `mapFd`. */
  run(type: keyof typeof ProgType, text: string, packet: Uint8Array): TestRun;
  readonly mapFd: number;
  /** The verifier's log for a program that it refuses, undefined for one that it takes. */
  refusal(type: keyof typeof ProgType, text: string, license?: string): string | undefined;
  /** A read-only array map of one value, as the kernel wants constant strings. @returns its descriptor. */
  constant(value: Uint8Array): number;
  dispose(): void;
}

/** One array map of one value of `valueBytes`; undefined where the kernel does not let us. */
export function openKernel(valueBytes: number): Kernel | undefined {
  const missing = (why: string): undefined => {
    if (process.env.CI && process.platform === 'linux' && process.arch === 'x64') throw new Error(`no bpf(2): ${why}`);
    return undefined;
  };
  if (process.platform !== 'linux' || process.arch !== 'x64') return missing('not Linux on x86-64');
  const libc = koffi.load('libc.so.6');
  const syscall = libc.func('long syscall(long number, long command, void *attr, long size)');
  const close = libc.func('int close(int fd)');
  const license = Buffer.from('GPL\0');
  const log = Buffer.alloc(LOG_BYTES);
  const out = Buffer.alloc(OUT_BYTES);
  const key = Buffer.alloc(4);
  const bpf = (command: number, fill: (attr: Buffer) => void): { fd: number; attr: Buffer } => {
    const attr = Buffer.alloc(ATTR_BYTES);
    fill(attr);
    return { fd: Number(syscall(SYS_BPF, command, attr, ATTR_BYTES)), attr };
  };
  const pointer = (attr: Buffer, at: number, to: Buffer): void => {
    attr.writeBigUInt64LE(koffi.address(to), at);
  };

  const { fd: mapFd } = bpf(Command.mapCreate, attr => {
    for (const [i, word] of [ARRAY, 4, valueBytes, 1].entries()) attr.writeUInt32LE(word, 4 * i);
  });
  if (mapFd < 0) return missing(`map creation failed with errno ${koffi.errno()}`);

  const access = (command: number, value: Buffer): void => {
    const { fd } = bpf(command, attr => {
      attr.writeUInt32LE(mapFd, 0);
      pointer(attr, 8, key);
      pointer(attr, 16, value);
    });
    if (fd < 0) throw new Error(`map access failed with errno ${koffi.errno()}`);
  };

  const load = (type: keyof typeof ProgType, text: string, gpl: Buffer): number => {
    const code = Buffer.from(encode(assemble(text)));
    log.fill(0, 0, 1);
    return bpf(Command.progLoad, attr => {
      attr.writeUInt32LE(ProgType[type], 0);
      attr.writeUInt32LE(code.length / 8, 4);
      pointer(attr, 8, code);
      pointer(attr, 16, gpl);
      attr.writeUInt32LE(1, 24);
      attr.writeUInt32LE(LOG_BYTES, 28);
      pointer(attr, 32, log);
    }).fd;
  };
  const logText = (): string => log.toString('latin1', 0, log.indexOf(0));
  const constants: number[] = [];

  return {
    mapFd,
    refusal(type, text, as = 'GPL') {
      const fd = load(type, text, Buffer.from(`${as}\0`));
      if (fd < 0) return logText();
      close(fd);
      return undefined;
    },
    constant(value) {
      const { fd } = bpf(Command.mapCreate, attr => {
        for (const [i, word] of [ARRAY, 4, value.length, 1, BPF_F_RDONLY_PROG].entries())
          attr.writeUInt32LE(word, 4 * i);
      });
      const content = Buffer.from(value);
      const written = bpf(Command.mapUpdate, attr => {
        attr.writeUInt32LE(fd, 0);
        pointer(attr, 8, key);
        pointer(attr, 16, content);
      });
      const frozen = bpf(Command.mapFreeze, attr => attr.writeUInt32LE(fd, 0));
      if (fd < 0 || written.fd < 0 || frozen.fd < 0) throw new Error(`no constant map, errno ${koffi.errno()}`);
      constants.push(fd);
      return fd;
    },
    run(type, text, packet) {
      const fd = load(type, text, license);
      if (fd < 0) throw new Error(`the kernel refuses the program:\n${logText()}\n${text}`);
      try {
        access(Command.mapUpdate, Buffer.alloc(valueBytes));
        const input = Buffer.from(packet);
        const { fd: status, attr } = bpf(Command.testRun, request => {
          request.writeUInt32LE(fd, 0);
          request.writeUInt32LE(input.length, 8);
          request.writeUInt32LE(OUT_BYTES, 12);
          pointer(request, 16, input);
          pointer(request, 24, out);
          request.writeUInt32LE(1, 32);
        });
        if (status < 0) throw new Error(`test run failed with errno ${koffi.errno()}`);
        const value = Buffer.alloc(valueBytes);
        access(Command.mapLookup, value);
        return {
          result: attr.readUInt32LE(4),
          packet: Uint8Array.from(out.subarray(0, attr.readUInt32LE(12))),
          value: Uint8Array.from(value),
        };
      } finally {
        close(fd);
      }
    },
    dispose() {
      for (const fd of [mapFd, ...constants.splice(0)]) close(fd);
    },
  };
}
