/** libunicorn2 (Debian package) through koffi: a processor inside the test process, on the process's own memory. */
import { existsSync } from 'node:fs';
import koffi from 'koffi';

const LIBRARY = ['/usr/lib/x86_64-linux-gnu/libunicorn.so.2', '/usr/lib/aarch64-linux-gnu/libunicorn.so.2'].find(path =>
  existsSync(path),
);
if (LIBRARY === undefined && process.env.CI) throw new Error('libunicorn2 is not installed');

export const emulatorAvailable = LIBRARY !== undefined;

// unicorn.h
export const Arch = { arm64: 2, x86: 4 } as const;
export const Mode = { arm: 0, x64: 8 } as const;
const PROT_ALL = 7;
const HOOK_CODE = 1 << 2;
const HOOK_MEM_READ = 1 << 10;
const HOOK_MEM_WRITE = 1 << 11;
/** Which control, number of arguments, direction: write. */
const control = (type: number, count: number): number => (type | (count << 26) | (1 << 30)) >>> 0;
const CTL_CPU_MODEL = control(7, 1);
const CTL_TB_REMOVE_CACHE = control(9, 2);

const CODE_HOOK = koffi.proto('void UnicornCodeHook(uint64_t uc, uint64_t address, uint32_t size, uint64_t data)');
const MEMORY_HOOK = koffi.proto(
  'void UnicornMemoryHook(uint64_t uc, int type, uint64_t address, int size, int64_t value, uint64_t data)',
);

type Native = (...args: unknown[]) => number;
interface Unicorn {
  readonly open: Native;
  readonly close: Native;
  readonly control: Native;
  readonly mapPointer: Native;
  readonly map: Native;
  readonly write: Native;
  readonly start: Native;
  readonly hookAdd: Native;
  readonly regRead: Native;
  readonly regWrite: Native;
  readonly strerror: (code: number) => string;
}
let loaded: Unicorn | undefined;
function unicorn(): Unicorn {
  if (loaded) return loaded;
  const lib = koffi.load(LIBRARY!);
  loaded = {
    open: lib.func('int uc_open(int arch, int mode, _Out_ uint64_t *engine)'),
    close: lib.func('int uc_close(uint64_t engine)'),
    control: lib.func('uc_ctl', 'int', ['uint64_t', 'uint32_t', '...']) as Native,
    mapPointer: lib.func(
      'int uc_mem_map_ptr(uint64_t engine, uint64_t address, size_t bytes, uint32_t prot, uint64_t pointer)',
    ),
    map: lib.func('int uc_mem_map(uint64_t engine, uint64_t address, size_t bytes, uint32_t prot)'),
    write: lib.func('int uc_mem_write(uint64_t engine, uint64_t address, void *bytes, size_t length)'),
    start: lib.func(
      'int uc_emu_start(uint64_t engine, uint64_t begin, uint64_t until, uint64_t timeout, size_t count)',
    ),
    hookAdd: lib.func(
      'int uc_hook_add(uint64_t engine, _Out_ uint64_t *hook, int type, void *callback, uint64_t data, uint64_t begin, uint64_t end)',
    ),
    regRead: lib.func('int uc_reg_read(uint64_t engine, int reg, void *value)'),
    regWrite: lib.func('int uc_reg_write(uint64_t engine, int reg, void *value)'),
    strerror: lib.func('const char *uc_strerror(int code)') as (code: number) => string,
  };
  return loaded;
}

/** What happens while code runs. */
export interface Observer {
  instruction(address: bigint): void;
  load(address: bigint): void;
  store(address: bigint): void;
}

export class Engine {
  private readonly uc = unicorn();
  private readonly engine: bigint;
  private readonly word = new BigUint64Array(1);
  private readonly callbacks: ReturnType<typeof koffi.register>[] = [];

  /** @param model CPU model of the architecture; default: the library's */
  constructor(arch: number, mode: number, model?: number) {
    const engine = [0n];
    this.check(this.uc.open(arch, mode, engine));
    this.engine = BigInt(engine[0]!);
    if (model !== undefined) this.check(this.uc.control(this.engine, CTL_CPU_MODEL, 'int', model));
  }

  /** Fresh memory of the emulator's own. Multiples of 4096, as for `mapHost`. */
  map(address: bigint, bytes: number): void {
    this.check(this.uc.map(this.engine, address, bytes, PROT_ALL));
  }
  /** Memory of this process, at the address it has. */
  mapHost(address: bigint, bytes: number): void {
    this.check(this.uc.mapPointer(this.engine, address, bytes, PROT_ALL, address));
  }
  write(address: bigint, bytes: NodeJS.TypedArray): void {
    this.check(this.uc.write(this.engine, address, bytes, bytes.byteLength));
  }
  /** Forgets the translation of code that was changed behind the emulator's back. */
  dropTranslations(address: bigint, end: bigint): void {
    this.check(this.uc.control(this.engine, CTL_TB_REMOVE_CACHE, 'uint64_t', address, 'uint64_t', end));
  }

  get(register: number): bigint {
    this.uc.regRead(this.engine, register, this.word);
    return this.word[0]!;
  }
  set(register: number, value: bigint): void {
    this.word[0] = BigInt.asUintN(64, value);
    this.uc.regWrite(this.engine, register, this.word);
  }

  /** Runs from `begin` until control reaches `until`. */
  run(begin: bigint, until: bigint, pcRegister: number): void {
    const code = this.uc.start(this.engine, begin, until, 0, 0);
    const pc = this.get(pcRegister);
    if (code !== 0 || pc !== until) {
      throw new Error(`emulation stopped at 0x${pc.toString(16)}: ${this.uc.strerror(code)}`);
    }
  }

  observe(observer: Observer): void {
    this.hook(HOOK_CODE, CODE_HOOK, (_uc: bigint, address: bigint) => observer.instruction(BigInt(address)));
    this.hook(HOOK_MEM_READ, MEMORY_HOOK, (_uc: bigint, _type: number, address: bigint) =>
      observer.load(BigInt(address)),
    );
    this.hook(HOOK_MEM_WRITE, MEMORY_HOOK, (_uc: bigint, _type: number, address: bigint) =>
      observer.store(BigInt(address)),
    );
  }
  private hook(type: number, proto: typeof CODE_HOOK, body: (...args: never[]) => void): void {
    const callback = koffi.register(body as (...args: unknown[]) => void, koffi.pointer(proto));
    this.callbacks.push(callback);
    this.check(this.uc.hookAdd(this.engine, [0n], type, callback, 0n, 1n, 0n));
  }

  close(): void {
    this.uc.close(this.engine);
    for (const callback of this.callbacks) koffi.unregister(callback);
  }

  private check(code: number): void {
    if (code !== 0) throw new Error(`unicorn: ${this.uc.strerror(code)}`);
  }
}
