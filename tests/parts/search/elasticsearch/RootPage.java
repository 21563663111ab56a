package org.elasticsearch.node;

import java.io.IOException;
import java.util.Collection;
import java.util.List;
import java.util.function.Predicate;
import java.util.function.Supplier;
import org.elasticsearch.Build;
import org.elasticsearch.client.internal.node.NodeClient;
import org.elasticsearch.cluster.metadata.IndexNameExpressionResolver;
import org.elasticsearch.cluster.node.DiscoveryNodes;
import org.elasticsearch.common.io.stream.NamedWriteableRegistry;
import org.elasticsearch.common.settings.ClusterSettings;
import org.elasticsearch.common.settings.IndexScopedSettings;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.common.settings.SettingsFilter;
import org.elasticsearch.features.NodeFeature;
import org.elasticsearch.plugins.ActionPlugin;
import org.elasticsearch.plugins.Plugin;
import org.elasticsearch.rest.BaseRestHandler;
import org.elasticsearch.rest.RestController;
import org.elasticsearch.rest.RestHandler;
import org.elasticsearch.rest.RestRequest;
import org.elasticsearch.rest.RestResponse;
import org.elasticsearch.rest.RestStatus;

/** The answer to GET /, whose own module is not published: what clients ask a node who it is by. */
public final class RootPage extends Plugin implements ActionPlugin {
    @Override
    public Collection<RestHandler> getRestHandlers(
        Settings settings, NamedWriteableRegistry registry, RestController controller, ClusterSettings cluster,
        IndexScopedSettings index, SettingsFilter filter, IndexNameExpressionResolver resolver,
        Supplier<DiscoveryNodes> nodes, Predicate<NodeFeature> features) {
        return List.of(new Handler());
    }

    private static final class Handler extends BaseRestHandler {
        @Override
        public String getName() {
            return "root_page";
        }

        @Override
        public List<Route> routes() {
            return List.of(new Route(RestRequest.Method.GET, "/"), new Route(RestRequest.Method.HEAD, "/"));
        }

        @Override
        protected RestChannelConsumer prepareRequest(RestRequest request, NodeClient client) {
            return channel -> channel.sendResponse(new RestResponse(RestStatus.OK, page(channel.newBuilder())));
        }

        private static org.elasticsearch.xcontent.XContentBuilder page(org.elasticsearch.xcontent.XContentBuilder out)
            throws IOException {
            Build build = Build.current();
            out.startObject().field("name", "node").field("cluster_name", "taffrail-tests").field("cluster_uuid", "_na_");
            out.startObject("version").field("number", build.qualifiedVersion()).field("build_flavor", build.flavor());
            out.field("build_type", "zip").field("build_hash", build.hash()).field("build_date", build.date());
            out.field("build_snapshot", build.isSnapshot());
            return out.endObject().field("tagline", "You Know, for Search").endObject();
        }
    }
}
