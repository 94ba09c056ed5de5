import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.Array;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/** Calls a method of Program once for each line: `java Runner NAME TYPE...`. */
public class Runner {
    public static void main(String[] args) throws Exception {
        FileOutputStream descriptor = new FileOutputStream(FileDescriptor.out);
        PrintStream results = new PrintStream(descriptor, true, "UTF-8");
        System.setOut(new PrintStream(OutputStream.nullOutputStream()));
        BufferedReader lines =
                new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        Class<?>[] types = new Class<?>[args.length - 1];
        for (int i = 0; i < types.length; i++) {
            types[i] = type(args[i + 1]);
        }
        Method method = Class.forName("Program").getDeclaredMethod(args[0], types);
        method.setAccessible(true);
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            results.print(escaped(answer(method, types, line)) + "\n");
            results.flush();
        }
        System.exit(0);
    }

    private static String answer(Method method, Class<?>[] types, String line) throws Exception {
        String[] parts = line.split("\t", -1);
        Object[] values = new Object[types.length];
        for (int i = 0; i < types.length; i++) {
            values[i] = value(types[i], plain(parts[i]));
        }
        try {
            return "checked:" + text(method.invoke(null, values));
        } catch (InvocationTargetException exception) {
            return "exception:" + exception.getCause();
        }
    }

    private static Class<?> type(String name) {
        if (name.endsWith("[]")) {
            return Array.newInstance(type(name.substring(0, name.length() - 2)), 0).getClass();
        }
        switch (name) {
            case "int":
                return int.class;
            case "float":
                return double.class;
            case "bool":
                return boolean.class;
            default:
                return String.class;
        }
    }

    private static Object value(Class<?> type, String text) {
        if (type.isArray()) {
            String inner = text.substring(1, text.length() - 1).trim();
            String[] parts = inner.isEmpty() ? new String[0] : inner.split("\\s+");
            Object array = Array.newInstance(type.getComponentType(), parts.length);
            for (int i = 0; i < parts.length; i++) {
                Array.set(array, i, value(type.getComponentType(), parts[i]));
            }
            return array;
        }
        if (type == int.class) {
            return Integer.valueOf(text);
        }
        if (type == double.class) {
            return Double.valueOf(text);
        }
        return type == boolean.class ? (Object) Boolean.valueOf(text) : text;
    }

    private static String text(Object value) {
        if (value == null || !value.getClass().isArray()) {
            return String.valueOf(value);
        }
        Object[] items = new Object[Array.getLength(value)];
        Arrays.setAll(items, i -> text(Array.get(value, i)));
        return Arrays.toString(items);
    }

    private static String plain(String text) {
        StringBuilder found = new StringBuilder();
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (c == '\\' && i + 1 < text.length()) {
                char code = text.charAt(++i);
                c = code == 't' ? '\t' : code == 'n' ? '\n' : code == 'r' ? '\r' : code;
            }
            found.append(c);
        }
        return found.toString();
    }

    private static String escaped(String text) {
        return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r");
    }
}
