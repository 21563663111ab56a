import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import org.opensearch.common.settings.Settings;
import org.opensearch.env.Environment;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.plugins.Plugin;
import org.opensearch.transport.Netty4Plugin;

/**
 * One node out of the published jars, without the distribution around them. Arguments: its home folder, then settings as
 * name=value. The system property "plugins" names the classes of further plugins on the class path.
 */
public final class OpenSearchNode extends Node {
    private OpenSearchNode(Environment environment, List<Class<? extends Plugin>> plugins) {
        super(environment, plugins, true);
    }

    public static void main(String[] arguments) throws Exception {
        Map<String, String> settings = new HashMap<>();
        for (int index = 1; index < arguments.length; index++) {
            String[] setting = arguments[index].split("=", 2);
            settings.put(setting[0], setting[1]);
        }
        Settings.Builder builder = Settings.builder().put("path.home", Path.of(arguments[0]).toAbsolutePath().toString());
        settings.forEach(builder::put);
        String name = settings.get("node.name");
        Environment environment =
            InternalSettingsPreparer.prepareEnvironment(builder.build(), Map.of(), null, () -> name);

        List<Class<? extends Plugin>> plugins = new ArrayList<>(List.of(Netty4Plugin.class));
        for (String plugin : System.getProperty("plugins", "").split(",")) {
            if (!plugin.isEmpty()) {
                plugins.add(Class.forName(plugin).asSubclass(Plugin.class));
            }
        }
        OpenSearchNode node = new OpenSearchNode(environment, plugins);
        CountDownLatch ended = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                node.close();
            } catch (Exception failure) {
                failure.printStackTrace();
            }
            ended.countDown();
        }));
        node.start();
        ended.await();
    }
}
