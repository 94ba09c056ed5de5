"""Languages of a virtual machine: the JVM's, .NET's, Erlang's, and JavaScript with its kin."""

from runtimes.programs.language import Language

JAVA = Language(
    name="java",
    packages="default-jdk-headless",
    hello="""
import java.util.Scanner;
public class AnyName {
    public static void main(String[] args) {
        System.out.println("hello " + args[0] + "|" + args[1]);
        System.out.println(new Scanner(System.in).nextLine());
        System.exit(3);
    }
}
""",
    error='class Bad { public static void main(String[] a) { throw new Error("bad"); } }',
    says="java.lang.Error: bad",
    loop="""
class Looping {
    public static void main(String[] args) {
        System.err.println("looping");
        for (;;) {}
    }
}
""",
    cpu_ms=1500,
    hog="""
import java.util.*;
class Hog {
    public static void main(String[] args) {
        List<byte[]> all = new ArrayList<>();
        for (;;) all.add(new byte[1 << 20]);
    }
}
""",
    memory_mib=256,
    gives_up="java.lang.OutOfMemoryError",
)

KOTLIN = Language(
    name="kotlin",
    packages="kotlin",
    hello="""
fun main(args: Array<String>) {
    println("hello ${args[0]}|${args[1]}")
    println(readLine())
    System.exit(3)
}
""",
    error='fun main(args: Array<String>) { throw RuntimeException("bad") }',
    says="java.lang.RuntimeException: bad",
    broken="fun main(args: Array<String>) { unknown() }",
    complains="unresolved reference: unknown",
    loop='fun main(args: Array<String>) { System.err.println("looping"); while (true) {} }',
    cpu_ms=500,
    hog="""
fun main(args: Array<String>) {
    val all = ArrayList<ByteArray>()
    while (true) all.add(ByteArray(1 shl 20))
}
""",
    memory_mib=256,
    gives_up="java.lang.OutOfMemoryError",
    slow=True,
)

SCALA = Language(
    name="scala",
    packages="scala",
    hello="""
object AnyName {
  def main(args: Array[String]) {
    println("hello " + args(0) + "|" + args(1))
    println(scala.io.StdIn.readLine())
    sys.exit(3)
  }
}
""",
    error='object Bad { def main(args: Array[String]) { throw new RuntimeException("bad") } }',
    says="java.lang.RuntimeException: bad",
    broken="object Broken { def main(args: Array[String]) { unknown() } }",
    complains="not found: value unknown",
    loop="""
object Looping {
  def main(args: Array[String]) {
    System.err.println("looping")
    while (true) {}
  }
}
""",
    cpu_ms=1500,
    hog="""
object Hog {
  def main(args: Array[String]) {
    val all = new java.util.ArrayList[Array[Byte]]
    while (true) all.add(new Array[Byte](1 << 20))
  }
}
""",
    memory_mib=384,
    gives_up="java.lang.OutOfMemoryError",
    slow=True,
)

GROOVY = Language(
    name="groovy",
    packages="groovy",
    hello="""
println "hello ${args[0]}|${args[1]}"
println System.in.newReader().readLine()
System.exit(3)
""",
    error='throw new RuntimeException("bad")',
    says="java.lang.RuntimeException: bad",
    loop='System.err.println("looping")\nwhile (true) {}',
    cpu_ms=2000,
    hog="def all = []\nwhile (true) all << new byte[1 << 20]",
    memory_mib=256,
    gives_up="java.lang.OutOfMemoryError",
)

CLOJURE = Language(
    name="clojure",
    packages="clojure",
    hello="""
(let [[a b] *command-line-args*]
  (println (str "hello " a "|" b))
  (println (read-line))
  (System/exit 3))
""",
    error='(throw (RuntimeException. "bad"))',
    says="bad",
    loop='(binding [*out* *err*] (println "looping"))\n(loop [] (recur))',
    cpu_ms=3000,
    hog="(loop [all ()] (recur (cons (byte-array 1048576) all)))",
    memory_mib=256,
    gives_up="OutOfMemoryError",
)

CSHARP = Language(
    name="csharp",
    packages="mono-mcs mono-runtime",
    runtime="mono",
    hello="""
using System;
class Hello {
    static int Main(string[] args) {
        Console.WriteLine("hello " + args[0] + "|" + args[1]);
        Console.WriteLine(Console.ReadLine());
        return 3;
    }
}
""",
    error='class Bad { static void Main() { throw new System.Exception("bad"); } }',
    says="System.Exception: bad",
    broken="class Broken { static void Main() { unknown(); } }",
    complains="The name `unknown' does not exist",
    loop="""
class Looping {
    static void Main() { System.Console.Error.WriteLine("looping"); for (;;) {} }
}
""",
    hog="""
class Hog {
    static void Main() {
        var all = new System.Collections.Generic.List<byte[]>();
        for (;;) {
            var block = new byte[1 << 20];
            for (int i = 0; i < block.Length; i += 4096) block[i] = 1;
            all.Add(block);
        }
    }
}
""",
)

ERLANG = Language(
    name="erlang",
    packages="erlang-base",
    # The first line is not read: escript expects #! there.
    hello="""
main([A, B]) ->
    io:format("hello ~s|~s~n", [A, B]),
    io:put_chars(io:get_line("")),
    halt(3).
""",
    error="\nmain(_) -> error(bad).\n",
    says="exception error: bad",
    loop="""
main(_) -> io:put_chars(standard_error, "looping\\n"), spin().
spin() -> spin().
""",
    cpu_ms=700,
    hog="""
main(_) -> take([]).
take(All) -> take([binary:copy(<<1>>, 1048576) | All]).
""",
    memory_mib=128,
)

ELIXIR = Language(
    name="elixir",
    packages="elixir",
    hello="""
[a, b] = System.argv()
IO.puts("hello #{a}|#{b}")
IO.write(IO.gets(""))
System.halt(3)
""",
    error='raise "bad"',
    says="** (RuntimeError) bad",
    loop="""
IO.puts(:stderr, "looping")
Enum.each(Stream.cycle([0]), fn x -> x end)
""",
    cpu_ms=1000,
    hog="Enum.to_list(Stream.repeatedly(fn -> :binary.copy(<<1>>, 1_048_576) end))",
    memory_mib=128,
)

_JS_HELLO = """
const fs = require("fs");
console.log("hello " + process.argv.slice(2).join("|"));
process.stdout.write(fs.readFileSync(0));
process.exitCode = 3;
"""
_JS_LOOP = 'require("fs").writeSync(2, "looping\\n");\nfor (;;) {}'
_JS_HOG = "const all = [];\nfor (;;) all.push(Buffer.alloc(1 << 20, 1));"

JAVASCRIPT = Language(
    name="javascript",
    packages="nodejs",
    runtime="node",
    hello=_JS_HELLO,
    error='throw new Error("bad");',
    says="Error: bad",
    loop=_JS_LOOP,
    hog=_JS_HOG,
    memory_mib=128,
)

_TS_TYPES = "declare const process: any, require: any, Buffer: any;\n"

TYPESCRIPT = Language(
    name="typescript",
    packages="node-typescript",
    hello=_TS_TYPES + _JS_HELLO,
    error='throw new Error("bad");',
    says="Error: bad",
    broken="const n: number = 'text';",
    complains="error TS2322",
    loop=_TS_TYPES + _JS_LOOP,
    hog=_TS_TYPES + _JS_HOG,
    memory_mib=128,
    slow=True,
)

_DENO_LOOP = 'console.error("looping");\nfor (;;) {}'
_DENO_HELLO = """
console.log("hello " + Deno.args.join("|"));
const line = new Uint8Array(80);
Deno.stdout.writeSync(line.subarray(0, Deno.stdin.readSync(line) ?? 0));
Deno.exit(3);
"""
_DENO_HOG = "const all = [];\nfor (;;) all.push(new Uint8Array(1 << 20).fill(1));"

JAVASCRIPT_DENO = Language(
    name="javascript",
    packages="deno (PyPI)",
    runtime="deno",
    hello=_DENO_HELLO,
    error='throw new Error("bad");',
    says="Error: bad",
    loop=_DENO_LOOP,
    hog=_DENO_HOG,
    memory_mib=192,
)

TYPESCRIPT_DENO = Language(
    name="typescript",
    packages="deno (PyPI)",
    runtime="deno",
    hello=_DENO_HELLO,
    error='throw new Error("bad") as object;',
    says="Error: bad",
    loop=_DENO_LOOP,
    cpu_ms=600,
    hog="const all: Uint8Array[] = [];\nfor (;;) all.push(new Uint8Array(1 << 20).fill(1));",
    memory_mib=192,
)

COFFEESCRIPT = Language(
    name="coffeescript",
    packages="coffeescript",
    hello="""
console.log "hello " + process.argv.slice(2).join "|"
process.stdout.write require("fs").readFileSync 0
process.exitCode = 3
""",
    error='throw new Error "bad"',
    says="Error: bad",
    loop='require("fs").writeSync 2, "looping\\n"\nloop 0',
    cpu_ms=500,
    hog="all = []\nloop all.push Buffer.alloc 1 << 20, 1",
    memory_mib=128,
)

LANGUAGES = (
    JAVA, KOTLIN, SCALA, GROOVY, CLOJURE, CSHARP, ERLANG, ELIXIR, JAVASCRIPT, TYPESCRIPT,
    JAVASCRIPT_DENO, TYPESCRIPT_DENO, COFFEESCRIPT,
)  # fmt: skip
